"""What emails say of this registry."""

from __future__ import annotations

from msgspec import Struct


class Site(Struct, frozen=True):
    """What letters say of this registry."""

    title: str
    team_id: str
    registry_url: str
    catalog_url: str
    signup: bool  # whether people can make accounts themselves
