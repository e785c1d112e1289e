"""Data about this registry that emails contain."""

from __future__ import annotations

from msgspec import Struct


class Site(Struct, frozen=True):
    """Names and URLs of this registry, as emails show them."""

    title: str
    team_id: str
    registry_url: str
    catalog_url: str
    signup: bool  # whether users can create accounts themselves
