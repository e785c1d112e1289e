"""Shared services that operations use."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.mail.site import Site
from quilt_registry.offload import Offload
from quilt_registry.rate_limits import RateLimits
from quilt_registry.storage.objects import ObjectStore


class Services(Struct, frozen=True, kw_only=True):
    """The database, the object store, helper processes, the data that emails contain, and the rate limits."""

    db: Database
    store: ObjectStore
    offload: Offload
    site: Site
    limits: RateLimits
