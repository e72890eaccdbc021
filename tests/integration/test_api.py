"""The HTTP API over real sockets, on the embedded stack: who may, what is written once, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from pipeline.web.client_io import Answer, Authorizer, NotAnswered
from tests.integration.office_stack import api_process, done, pstn, sandbox_process

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
OPEN = {"country": "US", "tariff": "acs_proxy_usd"}
NOW = "2026-03-01T10:00:00Z"
BODIES: dict[str, dict[str, object]] = {
    "open_account": OPEN,
    "set_policy": {"dial_out_policy": "DialoutCPCandPSTNDomestic"},
    "add_funds": {"amount_micros": 1, "currency": "USD"},
    "set_auto_recharge": {"enabled": False, "trigger_micros": 0, "amount_micros": 0},
    "set_user": {"licences": []},
    "remove_user": {},
    "assign_licences": {"user_ids": ["u"], "add": ["MCOPSTNPP"]},
    "set_purchased": {"count": 1},
    "refund_call": {"usage_id": "x", "reason": "y"},
    "answer_recharge": {"succeeded": False},
    "ask": {"tenant_id": "contoso", "call_type": "user_out"},
}


class Office(NamedTuple):
    env: dict[str, str]
    folder: Path
    url: str
    tokens: dict[str, str]

    def client(self, token: str | None = "operator") -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {self.tokens[token]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    with sandbox_process(folder) as env:
        env |= {"PSTN_API_REQUESTS_PER_S": "1000", "PSTN_API_BODY_BYTES_MAX": "100000"}
        tokens = {
            name: done(env, "token", "create", "--name", name, "--role", role, *whose).strip()
            for name, role, whose in (
                ("viewer", "viewer", ("--tenant", "contoso")),
                ("billing", "billing", ("--tenant", "contoso", "--tenant", "fabrikam")),
                ("operator", "operator", ("--all-tenants",)),
                ("other", "operator", ("--tenant", "somebody-else")),
            )
        }
        with api_process(env, folder) as url:
            made = Office(env, folder, url, tokens)
            with made.client() as client:
                for tenant in ("contoso", "fabrikam"):
                    assert write(client, "PUT", f"/v1/accounts/{tenant}", OPEN, f"open-{tenant}").status_code == 200
            yield made


def write(client: httpx.Client, method: str, path: str, body: object, key: str) -> httpx.Response:
    return client.request(method, path, json=body, headers={"Idempotency-Key": key})


def operations(office: Office) -> list[tuple[str, str, str]]:
    """(method, path, operation id) of every route, from the document that programs read."""
    with office.client(None) as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    found = []
    for path, methods in document["paths"].items():
        filled = re.sub(r"\{(\w+)\}", lambda m: "contoso" if m[1] == "tenant_id" else "x", path)
        found += [(method.upper(), filled, each["operationId"]) for method, each in methods.items()]
    return found


def name_of(operation_id: str) -> str:
    return next((name for name in BODIES if operation_id.startswith(f"{name}_v1")), "")


def call(client: httpx.Client, method: str, path: str, operation_id: str) -> httpx.Response:
    body = BODIES.get(name_of(operation_id))
    return client.request(method, path, json=body, headers={"Idempotency-Key": "who"})


def test_every_route_asks_for_a_token_a_tenant_and_a_role(office: Office) -> None:
    """401 without a token, 403 for another's tenant, 403 below the role: no route was forgotten."""
    roles = {"open_account": "billing", "answer_recharge": "billing"}  # what the next lower role is
    every = operations(office)
    assert len(every) >= 18
    assert set(BODIES) == {name_of(each[2]) for each in every} - {""}
    for method, path, operation_id in every:
        name = name_of(operation_id)
        with office.client(None) as nobody:
            refused = call(nobody, method, path, operation_id)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), path
            nobody.headers["Authorization"] = "Bearer pstn_wrong"
            assert call(nobody, method, path, operation_id).status_code == 401, path
        if "/contoso" in path or name == "ask":
            with office.client("other") as stranger:
                refused = call(stranger, method, path, operation_id)
            assert refused.status_code == 403, (path, refused.text)
            assert refused.json()["type"] == "urn:pstn:problem:tenant_forbidden"
        if method != "GET" and name != "ask":
            with office.client(roles.get(name, "viewer")) as low:
                refused = call(low, method, path, operation_id)
            assert refused.status_code == 403, (path, refused.text)
            assert refused.json()["type"] == "urn:pstn:problem:role_forbidden"
            assert refused.headers["content-type"] == "application/problem+json"


def test_a_list_holds_only_the_tokens_own_tenants(office: Office) -> None:
    """A reseller must not learn who else is a customer."""
    with office.client("viewer") as client:
        assert [each["tenant_id"] for each in client.get("/v1/accounts").json()["items"]] == ["contoso"]
    with office.client("operator") as client:
        first = client.get("/v1/accounts", params={"limit": 1}).json()
        second = client.get("/v1/accounts", params={"limit": 1, "after": first["next"]}).json()
        assert [each["items"][0]["tenant_id"] for each in (first, second)] == ["contoso", "fabrikam"]
        assert second["next"] is None
        assert first["read_model"]["as_of"] > NOW
        assert client.get("/v1/accounts", params={"limit": 1_000_000}).status_code == 422


def balance(client: httpx.Client, tenant: str) -> int:
    return int(client.get(f"/v1/accounts/{tenant}").json()["balance_micros"])


def test_a_key_is_obeyed_once_also_by_many_at_a_time_and_after_a_restart(office: Office) -> None:
    """A client that repeats after a timeout must not pay twice; one that reuses a key must hear of it."""
    funds = {"amount_micros": 5_000_000, "currency": "USD", "reference": "wire 1"}
    path = "/v1/accounts/contoso/funds"
    with office.client("billing") as client:
        before = balance(client, "contoso")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: write(client, "POST", path, funds, "wire-1"), range(8)))
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        assert len({answer.text for answer in answers}) == 1
        assert balance(client, "contoso") == before + 5_000_000
        other = write(client, "POST", path, funds | {"amount_micros": 6_000_000}, "wire-1")
        assert (other.status_code, other.json()["type"]) == (422, "urn:pstn:problem:key_reused")
        rejected = write(client, "POST", path, funds | {"currency": "EUR"}, "wire-2")
        assert (rejected.status_code, rejected.json()["reason"]) == (422, "currency_mismatch")
        missing = client.post(path, json=funds)
        assert (missing.status_code, missing.json()["type"]) == (400, "urn:pstn:problem:key_missing")
    with api_process(office.env, office.folder) as url:
        again = office._replace(url=url)
        with again.client("billing") as client:
            assert write(client, "POST", path, funds, "wire-1").text == answers[0].text
            assert write(client, "POST", path, funds | {"currency": "EUR"}, "wire-2").text == rejected.text
            # The same key of another tenant is another key.
            assert write(client, "POST", "/v1/accounts/fabrikam/funds", funds, "wire-1").status_code == 200
            assert balance(client, "contoso") == before + 5_000_000


def test_users_licences_policy_and_what_is_read_agree(office: Office) -> None:
    """Each command by HTTP does what it does by command line, and is in the audit with who and from where."""
    with office.client("billing") as client:
        root = "/v1/accounts/contoso"
        for number in range(3):
            user = {"licences": ["MCOPSTN1"], "spend_cap_micros": 1_000_000}
            assert write(client, "PUT", f"{root}/users/u{number}", user, f"u{number}").status_code == 200
        both = {"user_ids": ["u0", "u1", "ghost"], "add": ["MCOPSTNPP"]}
        part = write(client, "POST", f"{root}/licences", both, "l1").json()
        assert (part["result"], part["reason"]) == ("partly_applied", "user_unknown")
        assert "ghost" in part["detail"]
        assert write(client, "DELETE", f"{root}/users/u2", None, "r2").status_code == 200
        assert write(client, "PUT", f"{root}/purchased-licences/MCOMEETADV", {"count": 7}, "p").status_code == 200
        policy = {"dial_out_policy": "DialoutCPCandPSTNDomestic"}
        assert write(client, "PUT", f"{root}/dial-out-policy", policy, "pol").status_code == 200
        recharge = {"enabled": True, "trigger_micros": 1, "amount_micros": 2, "monthly_budget_micros": 3}
        assert write(client, "PUT", f"{root}/auto-recharge", recharge, "auto").status_code == 200
        page = client.get(f"{root}/users", params={"limit": 2}).json()
        assert [(each["user_id"], each["licences"]) for each in page["items"]] == [
            ("u0", ["MCOPSTN1", "MCOPSTNPP"]),
            ("u1", ["MCOPSTN1", "MCOPSTNPP"]),
        ]
        rest = client.get(f"{root}/users", params={"after": page["next"]}).json()["items"]
        assert [each["removed_at"] is not None for each in rest] == [True]
        account = client.get(root).json()
        assert account["dial_out_policy"] == "DialoutCPCandPSTNDomestic"
        assert account["auto_recharge"]["monthly_budget_micros"] == 3
        assert account["purchased_licences"] == [{"sku": "MCOMEETADV", "count": 7}]
        assert client.get(f"{root}/users/nobody").status_code == 404
        lines = client.get(f"{root}/audit").json()["items"]
        assert {line["issued_by"] for line in lines if line["kind"] == "set_user"} == {"api:billing@127.0.0.1"}
        assert [line["result"] for line in lines if line["kind"] == "assign_licences"] == ["partly_applied"]
        refund = write(client, "POST", f"{root}/refunds", {"usage_id": "none", "reason": "x"}, "ref")
        assert (refund.status_code, refund.json()["type"]) == (404, "urn:pstn:problem:call_unknown")
    with office.client() as operator:
        answer = write(operator, "POST", f"{root}/recharges/none/answer", {"succeeded": True}, "ra")
        assert (answer.status_code, answer.json()["reason"]) == (422, "recharge_unknown")
        assert operator.get("/v1/accounts/nobody").status_code == 404


def test_a_statement_by_http_is_json_csv_and_pdf(office: Office) -> None:
    """What the customer downloads is what the clerk prints."""
    with office.client() as client:
        write(client, "POST", "/v1/accounts/fabrikam/funds", {"amount_micros": 7_000_000, "currency": "USD"}, "st")
        made = client.get("/v1/accounts/fabrikam/statement").json()
        assert made["is_current"] is True
        assert made["closing_balance_micros"] == balance(client, "fabrikam")
        assert sum(row["amount_micros"] for row in made["entries"]) == made["closing_balance_micros"]
        shown = client.get("/v1/accounts/fabrikam/statement", headers={"Accept": "text/csv"})
        assert shown.text.startswith("line,time,kind")
        assert (
            client.get("/v1/accounts/fabrikam/statement", headers={"Accept": "application/pdf"}).content[:5] == b"%PDF-"
        )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"amount_micros": 1.5, "currency": "USD"}, "amount_micros"),
        ({"amount_micros": "5", "currency": "USD"}, "amount_micros"),
        ({"amount_micros": -5, "currency": "USD"}, "amount_micros"),
        ({"amount_micros": True, "currency": "USD"}, "amount_micros"),
        ({"amount_micros": 5, "currency": "USD", "amount": 5}, "amount"),
        ({"amount_micros": 5, "currency": "USD", "purchased_at": "yesterday"}, "yesterday"),
        ({"amount_micros": 5}, "currency"),
        ([], "dictionary"),
    ],
)
def test_a_wrong_body_is_one_problem_document(office: Office, body: object, told: str) -> None:
    """Nothing is guessed about money."""
    with office.client() as client:
        refused = write(client, "POST", "/v1/accounts/contoso/funds", body, f"wrong-{told}-{json.dumps(body)[:20]}")
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert told in refused.json()["detail"]


def test_a_body_without_end_is_refused_before_it_is_read(office: Office) -> None:
    """By what it announces, and by what comes when it announces nothing."""
    with office.client() as client:
        big = client.post("/v1/accounts/contoso/funds", content=b"x" * 200_000)
        assert (big.status_code, big.json()["type"]) == (413, "urn:pstn:problem:too_large")
        chunks = (b"x" * 10_000 for _ in range(100))
        assert client.post("/v1/authorize", content=chunks).status_code == 413
    host, _, port = office.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as raw:  # a gigabyte that never comes
        raw.sendall(b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert b" 413 " in raw.recv(100)


def test_who_asks_too_often_waits_and_a_revoked_token_is_none(office: Office) -> None:
    """One client's loop must not slow the others; a lost token must not open for long."""
    create = ("token", "create", "--name", "brief", "--role", "viewer", "--tenant", "contoso")
    secret = done(office.env, *create).strip()
    assert "already" in pstn(office.env, *create).stderr
    path = "/v1/accounts/contoso"
    with office.client(None) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        deadline_s = time.monotonic() + 5
        while client.get(path).status_code != 200:  # the file is looked at once a second
            assert time.monotonic() < deadline_s
        done(office.env, "token", "revoke", "--name", "brief")
        time.sleep(1.1)
        assert client.get(path).status_code == 401
    text = (office.folder / "tokens.json").read_text()
    assert not any(secret in text for secret in office.tokens.values()), "only hashes are kept"
    assert (office.folder / "tokens.json").stat().st_mode & 0o077 == 0
    env = office.env | {"PSTN_API_REQUESTS_PER_S": "2"}
    with api_process(env, office.folder) as url, office._replace(url=url).client("viewer") as client:
        codes = [client.get("/v1/accounts/contoso").status_code for _ in range(8)]
        assert codes[:4] == [200] * 4
        assert codes[-1] == 429
        assert int(client.get("/v1/accounts/contoso").headers["retry-after"]) >= 1


def test_tls_by_certificate_files(office: Office, tmp_path: Path) -> None:
    """Tokens do not travel in the clear."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    trusted = ssl.create_default_context(cafile=str(certificate))
    with api_process(office.env, office.folder, *options, scheme="https", verify=trusted) as url:
        headers = {"Authorization": f"Bearer {office.tokens['viewer']}"}
        answer = httpx.get(f"{url}/v1/accounts/contoso", headers=headers, verify=trusted)
        assert answer.status_code == 200


def test_the_docs_page_asks_nobody_else(office: Office) -> None:
    """It works where the internet does not, and lists every route."""
    with office.client(None) as client:
        page = client.get("/docs").text
    assert "http" not in re.sub(r"Answers:.*", "", page).replace("HTTP", "")
    assert "<script" not in page
    for _, path, operation_id in operations(office):
        assert f"id='{operation_id}'" in page, path


def test_the_small_client_gets_a_decision_or_one_line(office: Office) -> None:
    """A switch must be able to tell 'no' from 'no answer'."""
    with office.client() as client:
        user = {"licences": ["MCOPSTN_PAYG_1", "MCOPSTNPP"], "spend_cap_micros": 600_000}
        assert write(client, "PUT", "/v1/accounts/fabrikam/users/eve", user, "eve").status_code == 200
        funds = {"amount_micros": 9_000_000, "currency": "USD"}
        assert write(client, "POST", "/v1/accounts/fabrikam/funds", funds, "eve-funds").status_code == 200

    async def ask(token: str, **more: str) -> Answer:
        async with Authorizer(office.url, token) as authorizer:
            call = {"user_id": "eve", "caller_number": "+12065550100", "callee_number": "+493012345678"}
            return await authorizer.ask(tenant_id="fabrikam", call_type="user_out", **(call | more))

    answer = asyncio.run(ask(office.tokens["operator"]))
    assert answer.allowed
    assert answer.rate_micros_per_minute
    assert answer.max_duration_s == 600_000 // answer.rate_micros_per_minute * 60, "the cap is nearer than the balance"
    assert answer.as_of is not None
    assert asyncio.run(ask(office.tokens["operator"], callee_number="12")).reason == "number_invalid"
    for token, told in ((office.tokens["other"], "403"), ("nobody", "401")):
        with pytest.raises(NotAnswered, match=told):
            asyncio.run(ask(token))
    for body in (b"", b"{", b"[]", b'{"tenant_id": "fabrikam"}', b'{"tenant_id": "fabrikam", "call_type": 7, "x": 1}'):
        with office.client() as client:
            refused = client.post("/v1/authorize", content=body)
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json"), refused.text
