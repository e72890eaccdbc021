"""What the routes do: who asks, what is known, and one way to write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from pipeline.base.calendar import format_time
from pipeline.base.reject import Rejected
from pipeline.base.rules import Rules
from pipeline.base.settings_io import Settings
from pipeline.cdr.command import check_command
from pipeline.charge.tables import Tables
from pipeline.debit.account import Account
from pipeline.office.answer import Answer, Verdict
from pipeline.office.audit import Logged
from pipeline.office.command_io import CommandDesk
from pipeline.office.refund_io import read_taken
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store
from pipeline.web.bodies import CommandResult
from pipeline.web.command_log import command_id_of, is_same
from pipeline.web.limits_io import RateLimit
from pipeline.web.live_io import LiveBooks
from pipeline.web.problem import Problem, invalid_request, unknown_tenant
from pipeline.web.tokens import Role, Token
from pipeline.web.tokens_io import TokenBook

WAIT_S = 20.0
"""A command that is not decided in this time is answered as pending; the same key asks again."""
_KEY_CHARS_MAX = 255
bearer = HTTPBearer(auto_error=False, description="a token of `pstn token create`")


class Service:
    """Everything that a route needs; one for each process."""

    def __init__(self, *, settings: Settings, tables: Tables, rules: Rules, wait_s: float = WAIT_S) -> None:
        self.settings = settings
        self.tables = tables
        self.rules = rules
        self.tokens = TokenBook(settings.tokens)
        self.desk: CommandDesk
        self.live: LiveBooks
        self._wait_s = wait_s
        self._requests = RateLimit(settings.api_requests_per_s)
        self.authorizations = RateLimit(settings.api_authorize_per_s)
        self._writing: dict[str, asyncio.Lock] = {}

    def token(self, secret: str | None) -> Token:
        """The token in force, or 401."""
        token = None if secret is None else self.tokens.find(secret)
        if token is None:
            detail = "send `Authorization: Bearer <token>`; `pstn token create` makes one"
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "token_missing", "no token in force", detail, headers=headers)
        return token

    def admit(self, token: Token, role: Role, tenant_id: str | None, limit: RateLimit | None = None) -> Token:
        """The token, if it may: else 403 or 429. The tenant is asked before the role."""
        if tenant_id is not None and not token.may_see(tenant_id):
            raise Problem(403, "tenant_forbidden", "not this tenant", f"token {token.name} is not for {tenant_id!r}")
        if token.role < role:
            needed = f"the role {role.name.lower()} is needed, token {token.name} has {token.role.name.lower()}"
            raise Problem(403, "role_forbidden", "not with this role", needed)
        (limit or self._requests).take(token.digest)
        return token

    async def command(
        self,
        request: Request,
        token: Token,
        tenant_id: str,
        kind: str,
        given: dict[str, object],
        key: str,
        kept: dict[str, object] | None = None,
    ) -> CommandResult:
        """Writes a command once, however often it is asked for with this key, and says what became of it.

        `given` is what was asked for, which a retry must repeat; `kept` are fields that stay as they are.
        """
        command_id = command_id_of(tenant_id, key)
        lock = self._writing.setdefault(command_id, asyncio.Lock())
        async with lock:
            try:
                logged = self.live.log.first(command_id)
                if logged is None:
                    logged = await self._send(request, token, tenant_id, kind, (kept or {}) | given, command_id)
                if not is_same(given, logged.command, kind):
                    detail = f"it was used at {format_time(logged.at)} for a {logged.command.kind} with other fields"
                    raise Problem(422, "key_reused", "the Idempotency-Key was used for another request", detail)
                return await self._answer(logged)
            finally:
                self._writing.pop(command_id, None)

    async def _send(
        self, request: Request, token: Token, tenant_id: str, kind: str, given: dict[str, object], command_id: str
    ) -> Logged:
        """Sends it; the command that counts afterwards, which is another process's if that was quicker."""
        where = request.client.host if request.client else "unknown"
        head = {
            "command_id": command_id,
            "tenant_id": tenant_id,
            "kind": kind,
            "issued_by": f"api:{token.name}@{where}"[:256],
        }
        filled = given | await self._filled(tenant_id, kind, given)
        command = check_command(head | {name: value for name, value in filled.items() if value is not None})
        if isinstance(command, Rejected):
            raise invalid_request(command.detail)
        partition, offset = await self.desk.send(command)
        # The broker's time comes with the record itself.
        await self._in_time(self.live.has_logged(partition, offset))
        logged = self.live.log.first(command_id)
        return Logged(partition, offset, time.time_ns() // 1_000_000, command) if logged is None else logged

    async def _filled(self, tenant_id: str, kind: str, given: dict[str, object]) -> dict[str, object]:
        """What the server knows better: the time of now, and what a call cost."""
        now_ms = time.time_ns() // 1_000_000
        if kind == "add_funds" and given["purchased_at"] is None:
            return {"purchased_at": now_ms}
        if kind == "recharge_result" and given["succeeded"] and given["paid_at"] is None:
            return {"paid_at": now_ms}
        if kind == "refund_call":
            found: dict[str, object] = await self.stored(
                lambda store: _taken(store, tenant_id, cast("str", given["usage_id"]))
            )
            return found
        return {}

    async def _answer(self, logged: Logged) -> CommandResult:
        await self._in_time(self.live.has_decided(logged.partition, logged.offset))
        answer = self.live.log.answer(logged, self.live.next_offsets())
        if answer.verdict is Verdict.REJECTED:
            raise rejected_problem(answer)
        if answer.verdict is Verdict.PENDING:
            detail = "the ledger has not decided on it yet: ask again with the same Idempotency-Key"
            raise Problem(503, "pending", "sent, and not decided", detail, headers={"Retry-After": "2"})
        return CommandResult(
            command_id=answer.command_id,
            result="applied" if answer.verdict is Verdict.APPLIED else "partly_applied",
            reason=answer.reason,
            detail=answer.detail,
            at=format_time(logged.at),
        )

    async def _in_time(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Waits for the ledger, but not for ever: then the command is pending."""
        try:
            await asyncio.wait_for(waiting, self._wait_s)
        except TimeoutError:
            return

    async def stored(self, ask: Callable[[Store], Any]) -> Any:  # what `ask` returns
        """Asks the warehouse in a thread; 503 while it is away."""

        def run() -> Any:
            store = open_store(self.settings.warehouse, for_reading=True)
            try:
                return ask(store)
            finally:
                store.close()

        try:
            return await asyncio.to_thread(run)
        except (StoreAway, StoreRefused) as error:
            headers = {"Retry-After": "5"}
            raise Problem(503, "warehouse_away", "the warehouse does not answer", str(error), headers=headers) from None

    def read_model(self, tenant_id: str | None = None) -> dict[str, object]:
        """How fresh what was read is."""
        as_of_ms, behind = self.live.freshness(tenant_id)
        return {"as_of": None if as_of_ms is None else format_time(as_of_ms), "behind": behind}

    def known(self, tenant_id: str) -> None:
        """404 unless the tenant has an account."""
        if not self.live.table.has_account(tenant_id):
            raise unknown_tenant(tenant_id)

    def account(self, tenant_id: str) -> Account:
        """The tenant's account, or 404."""
        account = self.live.table.account(tenant_id)
        if account is None:
            raise unknown_tenant(tenant_id)
        return account


def _taken(store: Store, tenant_id: str, usage_id: str) -> dict[str, object]:
    taken = read_taken(store, tenant_id, usage_id)
    if taken is None:
        raise Problem(404, "call_unknown", "there is no such call", f"the warehouse has no rated call {usage_id!r}")
    if not taken.debited_micros and not taken.postpaid_micros:
        raise Problem(422, "nothing_to_refund", "the call cost nothing", f"call {usage_id!r} took no money")
    return {"debited_micros": taken.debited_micros, "postpaid_micros": taken.postpaid_micros}


def rejected_problem(answer: Answer) -> Problem:
    """The ledger's refusal."""
    return Problem(
        422,
        f"rejected:{answer.reason}",
        "the command was rejected and changed nothing",
        answer.detail,
        command_id=answer.command_id,
        reason=answer.reason,
    )


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def idempotency_key(
    idempotency_key: Annotated[str | None, Header(description="the same key again gives the same answer")] = None,
) -> str:
    """400 without one: a write that cannot be repeated safely is none."""
    if not idempotency_key or len(idempotency_key) > _KEY_CHARS_MAX:
        detail = f"send the header Idempotency-Key, 1 to {_KEY_CHARS_MAX} characters, new for each new request"
        raise Problem(400, "key_missing", "no Idempotency-Key", detail)
    return idempotency_key


def needs(role: Role) -> Any:  # a FastAPI dependency, which is Any there
    """Admits tokens with this role or a higher one, for the tenant in the path if there is one."""

    async def admitted(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Token:
        tenant_id = request.path_params.get("tenant_id")
        service = service_of(request)
        return service.admit(service.token(None if given is None else given.credentials), role, tenant_id)

    return Depends(admitted)
