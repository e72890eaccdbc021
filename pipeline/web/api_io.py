"""Puts the API together: routes, limits, problems, and the read model that lives as long as the server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.base.settings_io import Settings
from pipeline.charge.tables_io import load_tables
from pipeline.office.command_io import open_desk, partition_count_of
from pipeline.web import authorize_io, routes_io
from pipeline.web.docs_page import docs_html
from pipeline.web.limits_io import BodyLimit
from pipeline.web.live_io import LiveBooks
from pipeline.web.problem import Problem, plain_problem, validation_problem
from pipeline.web.service_io import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ABOUT = (
    "Accounts, funds, licences and users of Communications Credits. Money is whole micro-units (millionths) of the "
    "account's currency, times are RFC 3339 in UTC. Every write needs an Idempotency-Key: the same key again gives the "
    "same answer. Errors are problem documents (RFC 9457)."
)


def create_api(settings: Settings) -> ASGIApp:
    """The app; connects when it starts. TableError when a rating table is wrong."""
    tables = load_tables(settings.tables or resource_path("rating_tables"))
    rules = Rules(
        duplicate_window_ms=settings.duplicate_window_days * MS_PER_DAY,
        call_age_ms_max=settings.call_age_days_max * MS_PER_DAY,
        international_quota_closes_domestic=settings.international_quota_closes_domestic,
        overdraft_allowed=settings.overdraft_allowed,
    )
    service = Service(settings=settings, tables=tables, rules=rules)

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        async with open_desk(settings) as desk, LiveBooks(settings, desk.partition_count) as live:
            service.desk, service.live = desk, live
            # A full collection of tables and books stops every answer for 0.2 s, to find nothing.
            gc.collect()
            gc.freeze()
            yield

    api = FastAPI(
        title="PSTN credits", version="1", description=_ABOUT, lifespan=connected, docs_url=None, redoc_url=None
    )
    api.state.service = service
    api.include_router(routes_io.reads)
    api.include_router(routes_io.writes)
    api.include_router(authorize_io.router)
    api.add_exception_handler(Problem, _problem)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(Exception, _unexpected)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_html(api.openapi()))

    @api.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        return JSONResponse({"read_model": service.read_model()})

    # Outside of the framework's own layers, which cost as much as an answer of the shortcut.
    return BodyLimit(authorize_io.Shortcut(api, service), settings.api_body_bytes_max)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return plain_problem(error.status_code, error.detail).response()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return validation_problem(list(error.errors())).response()


async def _unexpected(request: Request, error: Exception) -> Response:
    return plain_problem(500, "this is a fault of the server; its log says more").response()


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. BrokerUnreachable or WorkerMustStop when it cannot begin."""
    import uvicorn  # noqa: PLC0415  # only for the server

    await asyncio.to_thread(partition_count_of, settings)  # uvicorn would make pages of what is one line here
    options: dict[str, Any] = {}  # of many types, as uvicorn's are
    if settings.api_tls_certificate is not None:
        options = {"ssl_certfile": settings.api_tls_certificate, "ssl_keyfile": settings.api_tls_key}
    config = uvicorn.Config(
        await asyncio.to_thread(create_api, settings),
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        **options,
    )
    await uvicorn.Server(config).serve()
