"""Construction of the service from the settings: database, object store, helper processes, background tasks, routes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ASGIApp

from quilt.manifest import Bounds
from quilt_registry import background, catalog, settings as settings_module
from quilt_registry.api import messages, openapi, quilt2, routing, system, v1
from quilt_registry.api.openapi import Route
from quilt_registry.catalog.headers import PageHeaders
from quilt_registry.database import PING_INTERVAL, Database
from quilt_registry.errors import Refusal
from quilt_registry.mail.outbox import SmtpTransport, send_forever
from quilt_registry.mail.site import Site
from quilt_registry.maintenance.expiry import expire_forever
from quilt_registry.maintenance.scrub import scrub_forever
from quilt_registry.monitoring import logs
from quilt_registry.monitoring.metrics import Metrics
from quilt_registry.monitoring.readiness import Readiness
from quilt_registry.offload import TIDY_INTERVAL, Offload, end_with_parent
from quilt_registry.packages import install as installing, push as pushing
from quilt_registry.packages.access import AccessPolicy
from quilt_registry.previews import markdown
from quilt_registry.rate_limits import RateLimits
from quilt_registry.registry import Registry
from quilt_registry.services import MAX_STREAMED_ENTRIES
from quilt_registry.settings import Settings
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.turns import Allowance
from quilt_registry.web.cors import Cors
from quilt_registry.web.hsts import Hsts
from quilt_registry.web.request_bodies import RequestBodies
from quilt_registry.web.request_log import UNKNOWN, RequestLog

log = logging.getLogger("quilt_registry")

SHUTDOWN_TIMEOUT = 3  # seconds for background tasks to end, because a mail server that hangs would hold them up longer
MIN_HELPERS = 2  # for each worker: one is left to light jobs, so more only help where there are cores to spare


def from_environment() -> ASGIApp:
    """Return the service that the environment describes. Each worker runs it."""
    end_with_parent()
    settings = settings_module.load()
    logs.set_up(settings)
    return build(settings, workers=int(os.environ.get(settings_module.WORKERS, "1")))


def build(settings: Settings, *, workers: int = 1) -> ASGIApp:
    """Return the service. DATABASE_URL must be set: the process that starts workers starts an embedded database."""
    registry = _registry(settings, workers)
    service = Litestar(
        route_handlers=[routing.router(_routes()), v1.router(), catalog.router()],
        dependencies={"registry": Provide(lambda: registry, sync_to_thread=False)},
        exception_handlers={Exception: _refuse},
        lifespan=[lambda _: _running(registry, request_log)],
        openapi_config=None,
        compression_config=catalog.COMPRESSION,
        on_app_init=[_no_logging],
        request_max_body_size=None,  # because each call has its own limit, and uploads of objects have none
        state=State({"registry": registry, "openapi": openapi_document(settings.registry_url)}),
    )
    pages = PageHeaders(service, catalog.is_page, https=settings.is_https)
    edge: ASGIApp = Cors(RequestBodies(pages, settings.max_body_bytes))
    request_log = RequestLog(Hsts(edge) if settings.is_https_only else edge, registry.metrics)
    return request_log


def openapi_document(registry_url: str) -> dict[str, Any]:
    """Return the OpenAPI document of all calls."""
    return openapi.document(_routes(), v1.router(), registry_url)


def _routes() -> list[Route]:
    return [*quilt2.ROUTES, *system.ROUTES]


def _registry(settings: Settings, workers: int) -> Registry:
    assert settings.database_url is not None
    db = Database(settings.database_url.get_secret_value(), settings.database_pool, settings.slow_query_ms)
    store = ObjectStore(settings)
    return Registry(
        db=db,
        store=store,
        offload=Offload(max(MIN_HELPERS, (os.cpu_count() or 1) // 4), workers),
        site=Site(
            settings.team_title,
            settings.team_id,
            settings.registry_url,
            settings.catalog_url,
            signup=settings.signup != "closed",
        ),
        limits=RateLimits(db, enabled=settings.rate_limits),
        streamed=Allowance(MAX_STREAMED_ENTRIES),
        bounds=Bounds(settings.max_depth, settings.max_nodes, settings.max_name_length),
        team_id=settings.team_id,
        settings=settings,
        policy=AccessPolicy(settings.allow_team_access, settings.allow_anonymous_access),
        readiness=Readiness(db, store),
        metrics=Metrics(),
    )


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry]:
    """Return the services without routes and background tasks, for a command that does what a request would do."""
    registry = _registry(settings, workers=1)
    await registry.db.open()
    registry.store.prepare()
    try:
        yield registry
    finally:
        await registry.offload.close()
        await registry.db.close()


@asynccontextmanager
async def _running(registry: Registry, request_log: RequestLog) -> AsyncIterator[None]:
    """Open the database and run the background tasks for the length of the block."""
    await registry.db.open()
    registry.store.prepare()
    await registry.offload.warm_up(pushing.push, installing.install, markdown.draft)
    tasks = [asyncio.create_task(task) for task in _background(registry, request_log)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=SHUTDOWN_TIMEOUT)
        request_log.flush()
        await registry.offload.close()
        await registry.db.close()


def _background(registry: Registry, request_log: RequestLog) -> list[Coroutine[Any, Any, None]]:
    db, settings = registry.db, registry.settings
    return [
        scrub_forever(db, registry.store, settings.package_url_expiration),
        send_forever(db, SmtpTransport(settings)),
        expire_forever(db),
        background.repeat(db.watch, interval=PING_INTERVAL, failure="The database could not be watched."),
        background.repeat(registry.offload.tidy, interval=TIDY_INTERVAL, failure="Memory could not be released."),
        request_log.flush_forever(),
        registry.metrics.sample_forever(db),
    ]


def _no_logging(config: AppConfig) -> AppConfig:
    """Leave out the framework's logging set-up: the process that serves decides where the log goes."""
    config.logging_config = None
    return config


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return an error as its reader expects it: as JSON in the API, as a page in the catalog."""
    headers: dict[str, str] | None = None
    route = request.scope.get("path_template", UNKNOWN)  # never the URL, which may contain a secret link
    if isinstance(error, Refusal):
        status, message, headers = error.status, error.message, error.headers
        if status >= 500:
            log.warning("%s %s: %s (%r)", request.method, route, message, error.__cause__)
    elif isinstance(error, HTTPException) and error.status_code < 500:
        status, message, headers = error.status_code, _sentence(error), error.headers
    else:
        status = 500
        message = f"Something went wrong in the registry. Its log has the details under the ID {logs.request_id()}."
        log.error("%s %s failed", request.method, route, exc_info=error)
    if catalog.is_page(request.scope["path"]):
        return catalog.refusal(request, error, status, message, headers)
    return messages.refusal(request.scope["path"], status, message, headers)


def _sentence(error: HTTPException) -> str:
    if isinstance(error, ValidationException) and error.extra:
        return messages.validation_errors(error.extra)
    known = {
        404: "There is nothing at this URL.",
        405: "This URL does not support this method.",
        413: f"The request body exceeds the limit of {messages.MAX_BODY_BYTES:,} bytes.",
    }
    return known.get(error.status_code, error.detail)
