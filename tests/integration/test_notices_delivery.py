"""Delivery to real servers: SMTP with STARTTLS and signed webhooks, dead ones too; and through a whole worker."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import SecretStr
from standardwebhooks import Webhook
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, add_months
from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients
from pipeline.base.settings_io import Settings
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.emit.customers_io import CustomersFile
from pipeline.emit.journal_read_io import read_journal
from pipeline.emit.notify.notice import MAIL, WEBHOOK, decode_notice, new_notice
from pipeline.emit.notify.post_io import Outcome, Post
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of
from tests.integration.ledger_harness import PARTITIONS, Deployment, account_commands, eventually
from tests.integration.test_payments_worker import recharge_command

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
EVENT = AccountEvent(**sample_of("account_event"))._replace(kind="recharge_succeeded", amount_micros=50_000_000)
CUSTOMERS = """
[tenant.contoso]
name = "Contoso"
language = "zh-Hant"
contacts = [
  {{ role = "billing", mail = "ap@contoso.example" }},
  {{ role = "billing", mail = "nobody@contoso.example" }},
  {{ role = "billing", webhook = "http://127.0.0.1:{port}/hook", secret = "{secret}" }},
]
"""


class Mailbox:
    """What a mail server takes; refuses some, and is busy when told."""

    def __init__(self) -> None:
        self.mails: list[email.message.EmailMessage] = []
        self.senders: list[str] = []
        self.is_busy = False
        self.was_encrypted: list[bool] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.is_busy:
            return "451 come again"
        self.was_encrypted.append(session.ssl is not None)
        self.senders.append(envelope.mail_from)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
        " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate: Path) -> Iterator[tuple[Mailbox, Controller]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"pstn", b"secret")
        return AuthResult(success=known)

    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    yield mailbox, controller
    controller.stop()


def settings_for(folder: Path, certificate: Path, port: int, hook_port: int = 1, **changes: Any) -> Settings:
    customers = folder / "customers.toml"
    customers.write_text(CUSTOMERS.format(port=hook_port, secret=SECRET))
    return Settings(
        **{
            "customers": customers,
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_username": "pstn",
            "smtp_password": SecretStr("secret"),
            "smtp_ca": certificate / "cert.pem",
            "mail_from": "Credits <credits@pstn.example>",
            **changes,
        }
    )


def sent(settings: Settings, channel: str, address: str) -> Outcome:
    async def main() -> Outcome:
        post = Post(settings=settings, customers=CustomersFile(settings.customers))
        try:
            return await post.send(new_notice(EVENT, channel, address, hour=0, now_ms=EVENT.occurred_at))
        finally:
            await post.close()

    return asyncio.run(main())


def test_a_mail_goes_out_encrypted_with_a_password(server, certificate, tmp_path):
    """STARTTLS, the server's certificate checked, and the envelope of the sender's own mailbox."""
    mailbox, controller = server
    settings = settings_for(tmp_path, certificate, controller.port)
    assert sent(settings, MAIL, "ap@contoso.example") == Outcome("sent")
    (mail,) = mailbox.mails
    assert mailbox.was_encrypted == [True]
    assert mailbox.senders == ["credits@pstn.example"]
    assert "已儲值" in mail["Subject"]
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_only_a_refused_mailbox_is_refused_for_good(server, certificate, tmp_path):
    """A wrong password, an unknown certificate, a busy or missing server: all of these may be mended."""
    mailbox, controller = server
    settings = settings_for(tmp_path, certificate, controller.port)
    assert sent(settings, MAIL, "nobody@contoso.example").kind == "refused"
    mailbox.is_busy = True
    assert sent(settings, MAIL, "ap@contoso.example").kind == "later"
    mailbox.is_busy = False
    wrong = settings.model_copy(update={"smtp_password": SecretStr("wrong")})
    assert sent(wrong, MAIL, "ap@contoso.example").kind == "away"
    unknown = settings.model_copy(update={"smtp_ca": None})
    assert sent(unknown, MAIL, "ap@contoso.example").kind == "away"
    away = settings.model_copy(update={"smtp_port": 1})
    assert sent(away, MAIL, "ap@contoso.example").kind == "away"
    assert mailbox.mails == []
    assert sent(settings, MAIL, "gone@contoso.example").kind == "refused"


class Endpoint:
    """A customer's webhook on a real socket."""

    def __init__(self) -> None:
        self.status = 204
        self.taken: list[dict[str, Any]] = []
        self.ids: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status == 204:
            self.taken.append(Webhook(SECRET).verify(body, dict(request.headers)))
            self.ids.append(request.headers["webhook-id"])
        return web.Response(status=self.status)

    async def start(self) -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_post("/hook", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]


def test_a_webhook_is_signed_so_that_the_library_of_the_specification_accepts_it(certificate, tmp_path):
    """Who receives it checks it with the same public library; money arrives as integers."""

    async def main() -> None:
        endpoint = Endpoint()
        runner, port = await endpoint.start()
        settings = settings_for(tmp_path, certificate, 1, port)
        post = Post(settings=settings, customers=CustomersFile(settings.customers))
        notice = new_notice(EVENT, WEBHOOK, f"http://127.0.0.1:{port}/hook", hour=0, now_ms=EVENT.occurred_at)
        assert await post.send(notice) == Outcome("sent")
        assert await post.send(notice) == Outcome("sent")
        assert endpoint.taken[0]["type"] == "recharge_succeeded"
        assert endpoint.taken[0]["data"]["amount_micros"] == 50_000_000
        assert endpoint.ids[0] == endpoint.ids[1]
        for status, kind in ((500, "later"), (301, "later"), (404, "later"), (410, "refused")):
            endpoint.status = status
            assert (await post.send(notice)).kind == kind
        await runner.cleanup()
        assert (await post.send(notice)).kind == "later"
        await post.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_dead_mail_server_delays_mail_and_nothing_else(
    kafka: KafkaNode, topic_prefix: str, server: tuple[Mailbox, Controller], certificate: Path, tmp_path: Path
) -> None:
    """The whole way: recharge, event, journal. Webhook at once; the mail when the server is back, after a restart."""
    mailbox, controller = server

    async def main() -> None:
        endpoint = Endpoint()
        runner, port = await endpoint.start()
        wanted = settings_for(tmp_path, certificate, 1, port)
        names = ("customers", "smtp_host", "smtp_username", "smtp_password", "smtp_ca", "mail_from")
        chosen = {name: getattr(wanted, name) for name in names}
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix, **chosen, declined_tenants="nobody")
        roles = ("ledger", "payments", "notifier")
        values = [*account_commands("contoso", 1_000_000), recharge_command("contoso")]
        async with deployment.worker(roles=roles, smtp_port=1):
            await deployment.send("account-commands", [("contoso", value) for value in values])
            assert len(await eventually(lambda: endpoint.taken, len, wait_s=60)) == 1
            runner_cli = CliRunner()
            common = ["--bootstrap", kafka.bootstrap, "--prefix", topic_prefix]

            def listed() -> list[dict[str, Any]]:
                answer = runner_cli.invoke(cli, ["notices", "list", "--format", "json", *common])
                assert answer.exit_code == 0, answer.output
                return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]

            def tried(found: list[dict[str, Any]]) -> bool:
                return sum(each["attempt_count"] > 0 for each in found) == 3

            found = await eventually(lambda: asyncio.to_thread(listed), tried, wait_s=60)
            assert sorted((each["channel"], each["state"]) for each in found) == [
                ("mail", "waiting"),
                ("mail", "waiting"),
                ("webhook", "sent"),
            ]
        assert mailbox.mails == []
        ids = [each["notice_id"] for each in found if each["address"] == "ap@contoso.example"]
        async with deployment.worker(roles=roles, smtp_port=controller.port):
            answer = await asyncio.to_thread(runner_cli.invoke, cli, ["notices", "resend", *ids, *common])
            assert answer.exit_code == 0, answer.output
            await eventually(lambda: mailbox.mails, len, wait_s=60)
        assert [mail["To"] for mail in mailbox.mails] == ["ap@contoso.example"]
        assert mailbox.mails[0]["Message-ID"] == f"<{ids[0]}@pstn.example>"
        assert len(endpoint.taken) == 1
        await runner.cleanup()

    asyncio.run(main())


@asynccontextmanager
async def open_transaction(settings: Settings) -> AsyncIterator[None]:
    """Somebody's transaction hangs in the books of contoso."""
    producer = KafkaClients(settings).transactional_producer(f"{settings.topic_prefix}somebody")
    await producer.start()
    try:
        await producer.begin_transaction()
        number = partition_of("contoso", PARTITIONS)
        await producer.send_and_wait(settings.topic("credit-table"), b"", key=b"x", partition=number)
        yield
        await producer.abort_transaction()
    finally:
        await producer.stop()


@pytest.mark.slow
def test_a_week_before_money_expires_a_second_mail_says_so(
    kafka: KafkaNode, topic_prefix: str, server: tuple[Mailbox, Controller], certificate: Path, tmp_path: Path
) -> None:
    """The real ledger announces the lot, the credit table says what is left, and the plan outlives its worker. A table
    that cannot be read, because somebody's transaction hangs in it, delays the reminder and nothing else."""
    mailbox, controller = server
    wait_s = 25

    async def main() -> None:
        endpoint = Endpoint()
        runner, port = await endpoint.start()
        wanted = settings_for(tmp_path, certificate, controller.port, port)
        names = ("customers", "smtp_host", "smtp_port", "smtp_username", "smtp_password", "smtp_ca", "mail_from")
        deployment = await Deployment.make(
            kafka.bootstrap, topic_prefix, **{name: getattr(wanted, name) for name in names}
        )
        due_at = int(time.time() + wait_s) * 1000
        old = {
            "command_id": "old",
            "tenant_id": "contoso",
            "issued_by": "test",
            "kind": "add_funds",
            "amount_micros": 7_000_000,
            "currency": "USD",
            "purchased_at": add_months(due_at + 7 * MS_PER_DAY, -12),
            "payment_method": "card",
            "reference": "test",
        }

        async def states() -> list[tuple[str, str]]:
            kept = await read_journal(deployment.settings, "notices", range(PARTITIONS))
            found = [decode_notice(each.value) for each in kept]
            return sorted((each.kind, each.state) for each in found if each.address != "nobody@contoso.example")

        told = [("lot_expiring", "sent"), ("lot_expiring", "sent")]
        roles = ("ledger", "notifier")
        async with deployment.worker(roles=roles):
            values = [*account_commands("contoso", 1_000_000), codec("account_command").encode(old)]
            await deployment.send("account-commands", [("contoso", value) for value in values])
            await deployment.call("contoso", 1)  # the next record, which announces the lot
            planned = [("lot_expiring", "planned"), *told]
            assert await eventually(states, lambda found: found == planned, wait_s=60) == planned
        async with open_transaction(deployment.settings), deployment.worker(roles=("notifier",), restore_stall_s=1):
            value = codec("account_event").encode_values(EVENT._replace(occurred_at=int(time.time() * 1000)))
            await deployment.send("account-events", [("contoso", value)])
            told = [*told, ("recharge_succeeded", "sent"), ("recharge_succeeded", "sent")]
            found = await eventually(states, lambda found: found == [planned[0], *told], wait_s=30)
        assert found == [planned[0], *told]
        assert endpoint.taken.pop()["type"] == "recharge_succeeded"
        mailbox.mails.pop()
        await asyncio.sleep(max(0, due_at / 1000 - time.time()))
        async with deployment.worker(roles=roles):
            reminded = sorted([("lot_expires_soon", "sent"), ("lot_expires_soon", "sent"), *told])
            assert await eventually(states, lambda found: found == reminded, wait_s=60) == reminded
        assert ["點數" in mail["Subject"] for mail in mailbox.mails] == [True, True]
        assert "7 天內到期" in mailbox.mails[1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
        left = [event["data"]["amount_micros"] for event in endpoint.taken]
        [call] = await deployment.rated()
        assert left == [7_000_000, 7_000_000 - call["debited_micros"]]
        assert call["debited_micros"] > 0
        assert [event["type"] for event in endpoint.taken] == ["lot_expiring", "lot_expires_soon"]
        await runner.cleanup()

    asyncio.run(main())
