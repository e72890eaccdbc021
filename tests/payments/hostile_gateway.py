"""A card processor that behaves as badly as real ones do, on a real socket, in a process of its own.

Fault model: it remembers charges and keys whatever happens to its callers. Before or after it takes the money it may
be slow, answer 500, drop the connection, answer nonsense, answer with somebody else's payment, answer twice, or say
that the key is in use. It tells of payments by webhook, twice, and again until it gets a 200. It forgets keys when it
is told that a day has passed. A declined payment may go through later. It must never be charged twice by us: it takes
money for every request whose key it does not remember.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import random
import socket
import time
from hashlib import sha256
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

SECRET = "gateway-secret"
BEFORE = ("slow_before", "error_before", "drop_before", "conflict")
AFTER = ("slow_after", "error_after", "drop_after", "nonsense", "another", "twice")
ALL_FAULTS = (*BEFORE, *AFTER)


class HostileGateway:
    """`slow_s` is longer than its callers wait; `fault_chance` of 100 requests meet a fault of `faults`."""

    def __init__(self) -> None:
        self.under_way = 0
        self.telling = 0
        self.reset({"seed": 1})

    def reset(self, wanted: dict[str, Any]) -> None:
        self.chance = random.Random(wanted["seed"])
        self.fault_chance = wanted.get("fault_chance", 0)
        self.decline_chance = wanted.get("decline_chance", 0)
        self.slow_s = wanted.get("slow_s", 1.2)
        self.faults: list[str] = wanted.get("faults", list(ALL_FAULTS))
        self.script: list[str] = wanted.get("script", [])
        """Faults of the next requests, in order; "" is none. Chance decides when it is empty."""
        self.payments: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.webhook_port = 0
        self.to_tell: list[str] = []

    # ---- money

    def take_money(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A first use of a key moves money, or is declined; a second gives the first answer."""
        said = json.dumps(body, sort_keys=True)
        if key in self.keys:
            first, status, answer = self.keys[key]
            if first != said:
                return 400, {"error": {"type": "idempotency_error"}}
            return status, answer
        number = len(self.payments) + 1
        declined = self.chance.randrange(100) < self.decline_chance
        payment = {
            "id": f"pi_{number}",
            "object": "payment_intent",
            "amount": body["amount"],
            "currency": body["currency"],
            "customer": body["customer"],
            "metadata": body["metadata"],
            "created": int(body["metadata"]["requested_at_ms"]) // 1000 + 1,
            "status": "requires_payment_method" if declined else "succeeded",
            "amount_received": 0 if declined else body["amount"],
            "last_payment_error": {"code": "card_declined", "decline_code": "expired_card"} if declined else None,
        }
        self.payments[payment["id"]] = payment
        status: int = 402 if declined else 200
        answer = {"error": {"type": "card_error", "code": "card_declined", "decline_code": "expired_card"}}
        self.keys[key] = (said, status, answer if declined else dict(payment))
        if not declined:
            self.to_tell += [payment["id"]] * 2
        return self.keys[key][1:]

    def pay_declined(self) -> int:
        """The cardholder sorts it out with the bank: what was declined goes through."""
        declined = [each for each in self.payments.values() if each["status"] != "succeeded"]
        for payment in declined:
            payment |= {"status": "succeeded", "amount_received": payment["amount"]}
            self.to_tell += [payment["id"]] * 2
        return len(declined)

    # ---- the socket

    async def serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._connection, sock=listening)
        telling = asyncio.create_task(self._tell())
        async with server:
            await server.serve_forever()
        telling.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            await self._request(method, target, headers, content, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _request(
        self, method: str, target: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        url = urlsplit(target)
        if url.path == "/control":
            _send(writer, 200, await self._control(json.loads(content)))
        elif headers.get("authorization") != "Bearer sk_test":
            _send(writer, 401, {"error": {"type": "authentication_error"}})
        else:
            fault = self._next_fault()
            self.requests.append((method, url.path, fault))
            self.under_way += 1
            try:
                if await self._before(fault, writer):
                    await self._after(fault, self._answer(method, url.path, url.query, headers, content), writer)
            finally:
                self.under_way -= 1

    async def _before(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        """What goes wrong before the money moves; False: it does not move."""
        if fault == "slow_before":
            await asyncio.sleep(self.slow_s)  # and then it goes on although nobody listens any more
        if fault == "conflict":
            _send(writer, 409, {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}})
        if fault == "error_before":
            _send(writer, 500, {"error": {"type": "api_error"}})
        return fault not in ("conflict", "error_before", "drop_before")

    async def _after(self, fault: str, answered: tuple[int, dict[str, Any]], writer: asyncio.StreamWriter) -> None:
        """What goes wrong after the money has moved."""
        if fault == "slow_after":
            await asyncio.sleep(self.slow_s)
        if fault == "error_after":
            _send(writer, 500, {"error": {"type": "api_error"}})
        elif fault == "nonsense":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>{]}")
        elif fault == "another" and len(self.payments) > 1:
            _send(writer, 200, self.chance.choice(list(self.payments.values())))
        elif fault != "drop_after":
            _send(writer, *answered)
            if fault == "twice":
                _send(writer, *answered)

    def _next_fault(self) -> str:
        if self.script:
            return self.script.pop(0)
        return self.chance.choice(self.faults) if self.chance.randrange(100) < self.fault_chance else ""

    def _answer(
        self, method: str, path: str, query: str, headers: dict[str, str], content: bytes
    ) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            return self.take_money(headers["idempotency-key"], json.loads(content))
        if path.endswith("/search"):
            wanted = parse_qs(query)["query"][0].removeprefix("metadata['recharge_id']:'").removesuffix("'")
            found = [each for each in self.payments.values() if each["metadata"]["recharge_id"] == wanted]
            return 200, {"object": "search_result", "data": found, "has_more": False}
        payment = self.payments.get(path.rpartition("/")[2])
        return (404, {"error": {"type": "invalid_request_error"}}) if payment is None else (200, payment)

    async def _control(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if "seed" in wanted:
            self.reset(wanted)
        if "forget_keys" in wanted:
            while self.under_way:  # a day has passed: whatever was slow has ended long ago
                await asyncio.sleep(0.01)
            self.keys.clear()
        if "webhook_port" in wanted:
            self.webhook_port = wanted["webhook_port"]
        if "calm" in wanted:
            self.fault_chance = 0
        late = self.pay_declined() if "pay_declined" in wanted else 0
        return {
            "payments": list(self.payments.values()),
            "to_come": len(self.to_tell) + self.telling + self.under_way,
            "late": late,
            "requests": self.requests,
        }

    async def _tell(self) -> None:
        """Webhooks: in any order, each until it is taken."""
        async with httpx.AsyncClient(timeout=1, verify=False) as client:
            while True:
                await asyncio.sleep(0.005)
                if not self.to_tell or not self.webhook_port:
                    continue
                payment_id = self.to_tell.pop(0)
                self.telling = 1  # until it is known whether it was taken
                body = json.dumps(
                    {"type": "payment_intent.succeeded", "data": {"object": self.payments[payment_id]}}
                ).encode()
                try:
                    answer = await client.post(
                        f"http://127.0.0.1:{self.webhook_port}/payments/webhook",
                        content=body,
                        headers={"Stripe-Signature": signature_of(body)},
                    )
                    taken = answer.status_code == 200
                except httpx.HTTPError:
                    taken = False
                if not taken:
                    self.to_tell.append(payment_id)
                self.telling = 0


def signature_of(body: bytes, at_s: int | None = None, secret: str = SECRET) -> str:
    stamp = str(int(time.time()) if at_s is None else at_s)
    return f"t={stamp},v1={hmac.new(secret.encode(), stamp.encode() + b'.' + body, sha256).hexdigest()}"


def _send(writer: asyncio.StreamWriter, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def control(port: int, **wanted: Any) -> dict[str, Any]:
    """Tells or asks the gateway something that no caller of a real one could."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/control", json.dumps(wanted))
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


class GatewayProcess:
    """The gateway, forked; `control` speaks to it, `kill` ends it."""

    def __init__(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/payment_intents"
        self.pid = os.fork()
        if self.pid == 0:
            try:
                asyncio.run(HostileGateway().serve(listening))
            finally:
                os._exit(1)
        listening.close()

    def control(self, **wanted: Any) -> dict[str, Any]:
        return control(self.port, **wanted)

    def kill(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
