"""`POST /v1/authorize`: allowed or not, why, how long, and at what price. Answered from memory, and nothing is kept."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials
from starlette.responses import JSONResponse

from pipeline.base.calendar import month_of
from pipeline.cdr.decode import Cdr
from pipeline.debit.authorize import authorize
from pipeline.web.bodies import Ask, AuthorizeResult
from pipeline.web.problem import invalid_request
from pipeline.web.routes_io import PROBLEMS
from pipeline.web.service_io import Service, bearer, service_of
from pipeline.web.tokens import Role

router = APIRouter(prefix="/v1", tags=["authorize"])


@router.post(
    "/authorize",
    summary="May this call be made, how long, at what price",
    responses=PROBLEMS | {200: {"model": AuthorizeResult}},
)
async def ask(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)], body: Ask
) -> JSONResponse:
    """Decided by the functions that decide on the finished call, with the balance, licences and pools of now.

    It **reserves nothing**: two calls that ask at once may both be promised the same money, and what was promised
    holds only as long as no other call takes it. `read_model` says how old the knowledge is.
    """
    service = service_of(request)
    service.admit(given, Role.VIEWER, body.tenant_id, service.authorizations)
    try:
        fields = body.fields()
    except ValueError as error:
        raise invalid_request(str(error)) from None
    return JSONResponse(answer(service, fields, time.time_ns() // 1_000_000))


# Any: the fields of `Ask`, whose types the form has checked.
def answer(service: Service, fields: dict[str, Any], now_ms: int) -> dict[str, object]:
    """The answer for the fields of an `Ask`."""
    tenant_id, user_id = fields["tenant_id"], fields["user_id"]
    start_ms = fields["start_time"] or now_ms
    table = service.live.table
    cdr = Cdr(
        usage_id="ask",
        call_id=None,
        conference_id=None,
        tenant_id=tenant_id,
        user_id=user_id,
        call_type=fields["call_type"],
        number_type=fields["number_type"],
        caller_number=fields["caller_number"],
        callee_number=fields["callee_number"],
        start_time=start_ms,
        duration_s=60,
        usage_country=fields["usage_country"],
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
