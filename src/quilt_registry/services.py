"""Shared services that operations use."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.mail.site import Site
from quilt_registry.offload import Offload
from quilt_registry.rate_limits import RateLimits
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.turns import Allowance

# Manifest entries and objects of the responses that one person receives at once: about 80 bytes of memory for each.
MAX_STREAMED_ENTRIES = 1_000_000


class Services(Struct, frozen=True, kw_only=True):
    """The database, the object store, helper processes, the data that emails contain, and the rate limits.

    `streamed` bounds the large responses of a person, by their entries: each holds memory until the client has read it.
    """

    db: Database
    store: ObjectStore
    offload: Offload
    site: Site
    limits: RateLimits
    streamed: Allowance
