"""The service: from the settings to a database, an object store, helpers and routes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from quilt.manifest import Bounds
from quilt_registry import catalog, logs, settings as settings_module, wire
from quilt_registry.accounts.expiring import keep_expiring
from quilt_registry.database import Database
from quilt_registry.errors import Refusal
from quilt_registry.letters import Site
from quilt_registry.limits import Limits
from quilt_registry.mail import Post, keep_sending
from quilt_registry.objects import Objects
from quilt_registry.observing import UNKNOWN, Observed
from quilt_registry.offload import Offload, end_with_parent
from quilt_registry.packages import install as installing, push as pushing
from quilt_registry.packages.access import Switches
from quilt_registry.packages.push import Services
from quilt_registry.packages.verifying import keep_verifying
from quilt_registry.parts import Parts
from quilt_registry.readiness import Readiness
from quilt_registry.settings import Settings
from quilt_registry.wire import describing, messages
from quilt_registry.wire.cors import Cors

log = logging.getLogger("quilt_registry")

ENDING = 3  # seconds that tasks get to come to an end; a mail server that hangs would hold them up for longer
HELPERS = 1  # for each worker; a second one only helps where there are cores to spare


def from_environment() -> ASGIApp:
    """The service that the environment describes; what each worker runs."""
    end_with_parent()
    settings = settings_module.load()
    logs.set_up(settings)
    return build(settings)


def build(settings: Settings) -> ASGIApp:
    """The service. Needs DATABASE_URL to be set: whoever starts workers starts an embedded database first."""
    assert settings.database_url is not None
    db = Database(settings.database_url.get_secret_value(), settings.database_pool, settings.slow_query_ms)
    store = Objects(settings)
    offload = Offload(max(HELPERS, (os.cpu_count() or 1) // 4))
    switches = Switches(settings.allow_team_access, settings.allow_anonymous_access)
    bounds = Bounds(settings.max_depth, settings.max_nodes, settings.max_name_length)
    services = Services(db, store, offload, bounds, settings.team_id)

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        await db.open()
        store.prepare()
        await offload.warm_up(pushing.push, installing.install)
        tasks = [
            asyncio.create_task(keep_verifying(db, store, settings.package_url_expiration)),
            asyncio.create_task(keep_sending(db, Post(settings))),
            asyncio.create_task(keep_expiring(db)),
            asyncio.create_task(observed.keep_telling(db)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=ENDING)
            observed.tell()
            await offload.close()
            await db.close()

    site = Site(
        settings.team_title,
        settings.team_id,
        settings.registry_url,
        settings.catalog_url,
        signup=settings.signup != "closed",
    )
    limits = Limits(db, settings.rate_limits)
    parts = Parts(settings, db, store, offload, switches, services, limits, site, Readiness(db, store))
    service = Litestar(
        route_handlers=[wire.router(), catalog.router()],
        dependencies={"parts": Provide(lambda: parts, sync_to_thread=False)},
        exception_handlers={Exception: _refuse},
        lifespan=[running],
        openapi_config=None,
        on_app_init=[_plain],
        request_max_body_size=None,  # each call has its own bound; objects have none
        state=State({"settings": settings, "openapi": describing.document(wire.calls(), settings.registry_url)}),
    )
    observed = Observed(Cors(service))
    return observed


def _plain(config: AppConfig) -> AppConfig:
    """No framework logging set-up: the process that serves decides where the log goes."""
    config.logging_config = None
    return config


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Say no in the way of whoever asked: JSON on the wire, a page in the catalog."""
    headers: dict[str, str] | None = None
    route = request.scope.get("path_template", UNKNOWN)  # never the address, in which a link may be
    if isinstance(error, Refusal):
        status, message, headers = error.status, error.message, error.headers
        if status >= 500:
            log.warning("%s %s: %s (%r)", request.method, route, message, error.__cause__)
    elif isinstance(error, HTTPException):
        status, message, headers = error.status_code, _sentence(error), error.headers
    else:
        status = 500
        message = f"Something went wrong in the registry. The details are in its log under the id {logs.request_id()}."
        log.error("%s %s failed", request.method, route, exc_info=error)
    if catalog.is_page(request.scope["path"]):
        return catalog.refusal(request, status, message)
    return messages.refusal(request.scope["path"], status, message, headers)


def _sentence(error: HTTPException) -> str:
    known = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    return known.get(error.status_code, error.detail)
