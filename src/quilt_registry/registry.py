"""Shared services that request handlers receive."""

from __future__ import annotations

from quilt_registry.monitoring.metrics import Metrics
from quilt_registry.monitoring.readiness import Readiness
from quilt_registry.packages.access import AccessPolicy
from quilt_registry.packages.push import PushServices
from quilt_registry.settings import Settings


class Registry(PushServices, frozen=True, kw_only=True):
    """All services of a running registry. Operations take it as `Services` or `PushServices`, or take single fields."""

    settings: Settings
    policy: AccessPolicy
    readiness: Readiness
    metrics: Metrics
