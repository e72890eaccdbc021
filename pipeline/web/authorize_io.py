"""`POST /v1/authorize`: allowed or not, why, how long, and at what price. Answered from memory, and nothing is kept.

`Shortcut` answers before the framework looks for a route and solves dependencies, which costs several times the answer;
the route behind it is the same function, and what OpenAPI describes.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import ValidationError
from starlette.responses import Response

from pipeline.base.calendar import month_of, parse_time
from pipeline.cdr.decode import Cdr
from pipeline.debit.authorize import authorize
from pipeline.web.bodies import Ask, AuthorizeResult
from pipeline.web.problem import Problem, invalid_request, validation_problem
from pipeline.web.routes_io import PROBLEMS
from pipeline.web.service_io import Service, bearer, service_of
from pipeline.web.tokens import Role

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/v1/authorize"
router = APIRouter(tags=["authorize"])
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": Ask.model_json_schema()}}}}


@router.post(
    PATH,
    summary="May this call be made, how long, at what price",
    responses=PROBLEMS | {200: {"model": AuthorizeResult}},
    openapi_extra=_BODY,
)
async def ask(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Response:
    """Decided by the functions that decide on the finished call, with the balance, licences and pools of now.

    It **reserves nothing**: two calls that ask at once may both be promised the same money, and what was promised
    holds only as long as no other call takes it. `read_model` says how old the knowledge is.
    """
    return respond(service_of(request), None if given is None else given.credentials, await request.body())


class Shortcut:
    """ASGI middleware: answers PATH itself and passes everything else on."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body, is_more = b"", True
            while is_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                is_more = message.get("more_body", False)
            response = respond(self._service, _secret(scope), body)
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)


def respond(service: Service, secret: str | None, body: bytes) -> Response:
    """The answer to the body of a request. Raises Problem."""
    token = service.token(secret)
    try:
        asked = Ask.model_validate_json(body)
        start_ms = None if asked.start_time is None else parse_time(asked.start_time)
    except ValidationError as error:
        raise validation_problem([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    except ValueError as error:
        raise invalid_request(str(error)) from None
    service.admit(token, Role.VIEWER, asked.tenant_id, service.authorizations)
    content = answer(service, asked, start_ms, time.time_ns() // 1_000_000)
    return Response(json.dumps(content), media_type="application/json")


def answer(service: Service, asked: Ask, start_ms: int | None, now_ms: int) -> dict[str, object]:
    """`start_ms`: of a call that is under way."""
    table, tenant_id, user_id = service.live.table, asked.tenant_id, asked.user_id
    start_ms = now_ms if start_ms is None else start_ms
    cdr = Cdr(
        usage_id="ask",
        call_id=None,
        conference_id=None,
        tenant_id=tenant_id,
        user_id=user_id,
        call_type=asked.call_type,
        number_type=asked.number_type,
        caller_number=asked.caller_number,
        callee_number=asked.callee_number,
        start_time=start_ms,
        duration_s=60,
        usage_country=asked.usage_country,
        operator=None,
        duration_source=None,
    )
    decided = authorize(
        cdr,
        table.account(tenant_id),
        None if user_id is None else table.user(tenant_id, user_id),
        table.month(tenant_id, month_of(start_ms)),
        now_ms=now_ms,
        tables=service.tables,
        rules=service.rules,
    )
    return {
        "allowed": decided.is_allowed,
        **dict(zip(decided._fields[1:], decided[1:], strict=True)),
        "read_model": service.read_model(tenant_id),
    }


def _secret(scope: Scope) -> str | None:
    """Of the header `Authorization: Bearer ...`."""
    value: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, secret = value.decode("latin-1").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None
