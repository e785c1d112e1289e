"""What the edges have at hand."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.letters import Site
from quilt_registry.limits import Limits
from quilt_registry.objects import Objects
from quilt_registry.offload import Offload
from quilt_registry.packages.access import Switches
from quilt_registry.packages.push import Services
from quilt_registry.readiness import Readiness
from quilt_registry.settings import Settings


class Parts(Struct, frozen=True):
    """The parts of a running registry; operations get the ones that they touch."""

    settings: Settings
    db: Database
    store: Objects
    offload: Offload
    switches: Switches
    pushing: Services
    limits: Limits
    site: Site
    readiness: Readiness
