"""The routes: one for each command of records.md, and what can be read."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import JSONResponse

from pipeline.base.calendar import parse_time
from pipeline.office.answer import Refusal
from pipeline.office.audit import audit_json
from pipeline.office.audit_io import begin_ms, needs_warehouse, read_audit, read_stored_refusals
from pipeline.office.credit_table import Page
from pipeline.office.shown import account_json, lot_json, summary_json, user_json
from pipeline.office.statement import Statement, problem_of
from pipeline.office.statement_io import read_statement
from pipeline.office.statement_pdf_io import statement_pdf
from pipeline.office.statement_text import statement_csv, statement_json
from pipeline.web import bodies
from pipeline.web.problem import Problem, ProblemDetails, invalid_request
from pipeline.web.service_io import idempotency_key, needs, service_of
from pipeline.web.tokens import Role, Token

Viewer = Annotated[Token, needs(Role.VIEWER)]
Billing = Annotated[Token, needs(Role.BILLING)]
Operator = Annotated[Token, needs(Role.OPERATOR)]
Key = Annotated[str, Depends(idempotency_key)]
TenantId = Annotated[str, Path(min_length=1, max_length=64)]
UserId = Annotated[str, Path(min_length=1, max_length=64)]
Limit = Annotated[int, Query(ge=1, le=1_000, description="how many at most")]
After = Annotated[str | None, Query(max_length=64, description="the `next` of the page before")]
Instant = Annotated[str | None, Query(max_length=40, description="RFC 3339 with Z")]
# Any: JSON objects, described by the read functions.
Json = dict[str, Any]

_STATEMENT_WAIT_S = 5.0
_REFUSED = (400, 401, 403, 404, 413, 422, 429, 503)
PROBLEMS: dict[int | str, Json] = {status: {"model": ProblemDetails} for status in _REFUSED}
reads = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["read"])
writes = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["write"])


@reads.get("/accounts", summary="Accounts that the token may see")
async def list_accounts(request: Request, token: Viewer, limit: Limit = 100, after: After = None) -> Json:
    service = service_of(request)
    table = service.live.table
    page = table.tenants(after, limit, token.tenants)
    found = [account for tenant_id in page.names if (account := table.account(tenant_id)) is not None]
    return _page(request, page, [summary_json(account) for account in found])


@reads.get("/accounts/{tenant_id}", summary="Balance, lots, auto-recharge, pools of a tenant")
async def show_account(request: Request, token: Viewer, tenant_id: TenantId) -> Json:
    service = service_of(request)
    service.known(tenant_id)
    shown = account_json(service.live.table, tenant_id) or {}
    return shown | {"read_model": service.read_model(tenant_id)}


@reads.get("/accounts/{tenant_id}/lots", summary="Every lot, spent ones too, in the order in which they pay")
async def list_lots(
    request: Request, token: Viewer, tenant_id: TenantId, limit: Limit = 100, after: After = None
) -> Json:
    service = service_of(request)
    service.known(tenant_id)
    lots = service.live.table.lots(tenant_id)
    names = [lot.lot_id for lot in lots]
    start = names.index(after) + 1 if after in names else 0
    chosen = lots[start : start + limit]
    following = chosen[-1].lot_id if start + limit < len(lots) else None
    return _page(request, Page([], following), [lot_json(lot) for lot in chosen], tenant_id)


@reads.get("/accounts/{tenant_id}/users", summary="Users of a tenant, by id")
async def list_users(
    request: Request, token: Viewer, tenant_id: TenantId, limit: Limit = 100, after: After = None
) -> Json:
    service = service_of(request)
    service.known(tenant_id)
    table = service.live.table
    page = table.user_ids(tenant_id, after, limit)
    users = [user for user_id in page.names if (user := table.user(tenant_id, user_id)) is not None]
    return _page(request, page, [user_json(user) for user in users], tenant_id)


@reads.get("/accounts/{tenant_id}/users/{user_id}", summary="One user")
async def show_user(request: Request, token: Viewer, tenant_id: TenantId, user_id: UserId) -> Json:
    service = service_of(request)
    service.known(tenant_id)
    user = service.live.table.user(tenant_id, user_id)
    if user is None:
        raise Problem(404, "user_unknown", "there is no such user", f"tenant {tenant_id!r} has no user {user_id!r}")
    return user_json(user) | {"read_model": service.read_model(tenant_id)}


@reads.get("/accounts/{tenant_id}/statement", summary="A credit statement as JSON, CSV or PDF (by Accept)")
async def show_statement(
    request: Request,
    token: Viewer,
    tenant_id: TenantId,
    from_: Annotated[str | None, Query(alias="from", max_length=40, description="RFC 3339 with Z")] = None,
    to: Annotated[str | None, Query(max_length=40, description="RFC 3339 with Z, not included")] = None,
) -> Response:
    service = service_of(request)
    account, lots = service.account(tenant_id), service.live.table.lots(tenant_id)
    period = (_instant(from_, "from"), _instant(to, "to"))
    now_ms = time.time_ns() // 1_000_000
    made, is_current = await service.stored(
        lambda store: read_statement(store, account, lots, period, now_ms=now_ms, wait_s=_STATEMENT_WAIT_S)
    )
    if (problem := problem_of(made)) is not None:
        raise Problem(503, "statement_differs", "the statement does not add up yet", problem)
    return _statement_response(made, request.headers.get("accept", ""), is_current=is_current)


@reads.get("/accounts/{tenant_id}/audit", summary="Who issued which command, from where, when, and its result")
async def show_audit(
    request: Request,
    token: Viewer,
    tenant_id: TenantId,
    from_: Annotated[
        str | None, Query(alias="from", max_length=40, description="RFC 3339 with Z; default: 14 days ago")
    ] = None,
    to: Annotated[str | None, Query(max_length=40, description="RFC 3339 with Z, not included")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=64, description="the `next` of the page before")] = None,
) -> Json:
    service = service_of(request)
    settings, now_ms, to_ms = service.settings, time.time_ns() // 1_000_000, _instant(to, "to")
    from_ms = begin_ms(_instant(from_, "from"), to_ms, now_ms)
    stored: dict[tuple[int, int], Refusal] = {}
    if needs_warehouse(settings, from_ms, now_ms):
        stored = await service.stored(lambda store: read_stored_refusals(store, settings, tenant_id, from_ms))
    since = int(after) if after is not None and after.isdigit() else -1
    lines = await read_audit(
        settings,
        partition_count=service.live.partition_count,
        tenant_id=tenant_id,
        from_ms=from_ms,
        to_ms=to_ms,
        stored=stored,
    )
    rest = [line for line in lines if line.answer.offset > since]
    following = str(rest[limit - 1].answer.offset) if len(rest) > limit else None
    return _page(request, Page([], following), [audit_json(line) for line in rest[:limit]], tenant_id)


@writes.put("/accounts/{tenant_id}", summary="Open an account, or change its settings (not its currency)")
async def open_account(
    request: Request, token: Operator, tenant_id: TenantId, body: bodies.OpenAccount, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "open_account", body, key)


@writes.put("/accounts/{tenant_id}/dial-out-policy", summary="The policy of users without their own")
async def set_policy(
    request: Request, token: Billing, tenant_id: TenantId, body: bodies.SetPolicy, key: Key
) -> bodies.CommandResult:
    service = service_of(request)
    terms = service.account(tenant_id).terms._asdict()
    return await service.command(request, token, tenant_id, "open_account", body.fields(), key, kept=terms)


@writes.post("/accounts/{tenant_id}/funds", summary="Add prepaid funds that were paid for")
async def add_funds(
    request: Request, token: Billing, tenant_id: TenantId, body: bodies.AddFunds, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "add_funds", body, key)


@writes.put("/accounts/{tenant_id}/auto-recharge", summary="Recharge below a trigger, or no more")
async def set_auto_recharge(
    request: Request, token: Billing, tenant_id: TenantId, body: bodies.SetAutoRecharge, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "set_auto_recharge", body, key)


@writes.put("/accounts/{tenant_id}/users/{user_id}", summary="Set a user up, or replace his settings")
async def set_user(
    request: Request, token: Billing, tenant_id: TenantId, user_id: UserId, body: bodies.SetUser, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "set_user", body, key, user_id=user_id)


@writes.delete("/accounts/{tenant_id}/users/{user_id}", summary="Remove a user")
async def remove_user(
    request: Request, token: Billing, tenant_id: TenantId, user_id: UserId, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "remove_user", bodies.Body(), key, user_id=user_id)


@writes.post("/accounts/{tenant_id}/licences", summary="Add and remove licences of many users")
async def assign_licences(
    request: Request, token: Billing, tenant_id: TenantId, body: bodies.AssignLicences, key: Key
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "assign_licences", body, key)


@writes.put("/accounts/{tenant_id}/purchased-licences/{sku}", summary="How many of a SKU were bought (R34)")
async def set_purchased(
    request: Request,
    token: Billing,
    tenant_id: TenantId,
    sku: Annotated[str, Path(min_length=1, max_length=256)],
    body: bodies.PurchasedLicences,
    key: Key,
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "set_purchased_licences", body, key, sku=sku)


@writes.post("/accounts/{tenant_id}/refunds", summary="Give back all that a call cost")
async def refund_call(
    request: Request, token: Billing, tenant_id: TenantId, body: bodies.RefundCall, key: Key
) -> bodies.CommandResult:
    return await _command(
        request, token, tenant_id, "refund_call", body, key, debited_micros=None, postpaid_micros=None
    )


@writes.post("/accounts/{tenant_id}/recharges/{recharge_id}/answer", summary="Answer a recharge by hand")
async def answer_recharge(
    request: Request,
    token: Operator,
    tenant_id: TenantId,
    recharge_id: Annotated[str, Path(min_length=1, max_length=256)],
    body: bodies.RechargeAnswer,
    key: Key,
) -> bodies.CommandResult:
    return await _command(request, token, tenant_id, "recharge_result", body, key, recharge_id=recharge_id)


async def _command(
    request: Request, token: Token, tenant_id: str, kind: str, body: bodies.Body, key: str, **more: object
) -> bodies.CommandResult:
    try:
        fields = body.fields() | more
    except ValueError as error:
        raise invalid_request(str(error)) from None
    return await service_of(request).command(request, token, tenant_id, kind, fields, key)


def _page(request: Request, page: Page, items: list[Json], tenant_id: str | None = None) -> Json:
    read_model = service_of(request).read_model(tenant_id)
    return {"items": items, "next": page.next_after, "read_model": read_model}


def _instant(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise invalid_request(f"{name}: {error}") from None


def _statement_response(made: Statement, accept: str, *, is_current: bool) -> Response:
    headers = {"X-Statement-Current": "true" if is_current else "false"}
    if "application/pdf" in accept:
        return Response(statement_pdf(made), media_type="application/pdf", headers=headers)
    if "text/csv" in accept:
        return Response(statement_csv(made), media_type="text/csv; charset=utf-8", headers=headers)
    return JSONResponse(statement_json(made) | {"is_current": is_current}, headers=headers)
