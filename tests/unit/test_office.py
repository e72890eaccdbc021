"""Pure parts of what billing staff use: amounts, files of users, plans, the read model, statements, the audit."""

from __future__ import annotations

import csv
import io
import itertools

import pytest

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.settings_io import Settings
from pipeline.cdr.command import Command
from pipeline.charge.subscriber import Terms
from pipeline.debit.account import Account, Lot, User, UserSettings
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.stored import encode_stored
from pipeline.emit.outputs import RejectedRecord
from pipeline.office.amount import AmountError, parse_amount
from pipeline.office.answer import Refusal, Verdict, answer_of, decode_refusal
from pipeline.office.assign import Step, make_plan
from pipeline.office.audit import Logged, judge
from pipeline.office.audit_io import begin_ms, needs_warehouse
from pipeline.office.credit_table import CreditTable
from pipeline.office.csv_users import FileRefused, parse_users
from pipeline.office.statement import EntryRow, make_statement, problem_of
from pipeline.office.statement_pdf_io import statement_pdf
from pipeline.office.statement_text import statement_csv, statement_json
from pipeline.web.command_log import CommandLog, command_id_of, is_same
from pipeline.web.limits_io import RateLimit
from pipeline.web.problem import Problem

TERMS = Terms("US", "USD", "hold_usd", None, "prepaid", False, "DialoutCPCandPSTNInternational")
SKUS = ("MCOPSTN1", "MCOPSTNPP")


@pytest.mark.parametrize(("text", "micros"), [("100.00", 100_000_000), ("0.000001", 1), ("7", 7_000_000)])
def test_an_amount_is_typed_in_the_currency(text: str, micros: int) -> None:
    """Nobody types micro-units."""
    assert parse_amount(text) == micros


@pytest.mark.parametrize(
    "text", ["1e3", "-5", "1,000.00", "0.0000001", "", " 5", "5 ", "+5", "1.", ".5", "NaN", "٣", "0", "0.00", "9" * 13]
)
def test_what_is_no_amount_is_refused_in_one_line(text: str) -> None:
    """A wrong reading would be money."""
    with pytest.raises(AmountError) as refused:
        parse_amount(text)
    assert "\n" not in str(refused.value)


def refusal_of(data: bytes) -> list[str]:
    with pytest.raises(FileRefused) as refused:
        parse_users(data, SKUS)
    return refused.value.problems


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_spreadsheets_file_is_read_however_it_was_saved(separator: str, mark: bytes, line_end: str) -> None:
    """Excel writes a byte order mark, semicolons where the comma is the decimal sign, and CRLF."""
    lines = [separator.join(cells) for cells in (("user_id", "add"), ("u1", "MCOPSTN1 MCOPSTNPP"), ("ü", "MCOPSTNPP"))]
    rows = parse_users(mark + line_end.join(lines).encode(), SKUS)
    assert [(row.line, row.user_id, row.add) for row in rows] == [
        (2, "u1", ("MCOPSTN1", "MCOPSTNPP")),
        (3, "ü", ("MCOPSTNPP",)),
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"name,add\nu1,MCOPSTN1\n", "line 1: column 'name' is none of"),
        (b"user_id\nu1\n", "line 1: the columns user_id and add"),
        (b"user_id,add,add\nu1,,\n", "line 1: column add stands there twice"),
        (b"user_id,add\nu1,MCOPSTN1\nu1,MCOPSTNPP\n", "line 3: user 'u1' stands on line 2 already"),
        (b"user_id,add\nu1,NOPE\n", "line 2: licence 'NOPE' is unknown"),
        (b"user_id,add\nu1,MCOPSTN1,x\n", "line 2: 3 cells, the header has 2"),
        (b"user_id,add\n,MCOPSTN1\n", "line 2: user_id is not 1 to 64 characters"),
        (b"user_id,add,country\nu1,MCOPSTN1,Germany\n", "line 2: country 'Germany' is not two capital letters"),
        (b"user_id,add,remove\nu1,MCOPSTN1,MCOPSTN1\n", "line 2: licence MCOPSTN1 is both added and removed"),
        (b"user_id,add\nu1,\xff\n", "line 2: the file is not UTF-8"),
        ("user_id,add\nu1,MCOPSTN1\n".encode("utf-16"), "UTF-8"),
        (b"", "line 1: the columns user_id and add"),
        (b"user_id,add\n", "the file has no users"),
        (b'user_id,add\n"u1,MCOPSTN1\n', "a quote that is not closed"),
    ],
)
def test_a_wrong_line_is_named_and_the_whole_file_refused(data: bytes, told: str) -> None:
    """Half a file applied is worse than none: nobody knows which half."""
    problems = refusal_of(data)
    assert any(told in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_of_many_wrong_lines_twenty_are_shown() -> None:
    """A wrong column gives 100,000 of them."""
    problems = refusal_of(b"user_id,add\n" + b"".join(b"u%d,NOPE\n" % n for n in range(100)))
    assert len(problems) == 21
    assert problems[-1] == "and 80 more lines are wrong"


def user(user_id: str, *licences: str, removed_at: int | None = None) -> User:
    made = User("A", user_id, UserSettings(None, licences, None, None, None, None, False))
    made.removed_at = removed_at
    return made


def planned(data: bytes, known: dict[str, User], *, is_creating: bool) -> tuple[list[Step], list[Command]]:
    numbers = itertools.count(1)
    plan = make_plan(
        parse_users(data, SKUS), known.get, tenant_id="A", issued_by="me", is_creating=is_creating,
        new_id=lambda: f"c{next(numbers)}",
    )  # fmt: skip
    return list(plan.steps), list(plan.commands)


def test_rows_that_are_so_already_are_left_alone_and_the_rest_share_commands() -> None:
    """A run that broke off is taken up by running it again; 100,000 users are 200 commands."""
    known = {f"u{n}": user(f"u{n}") for n in range(1_200)} | {"done": user("done", "MCOPSTN1", "MCOPSTNPP")}
    data = b"user_id,add\ndone,MCOPSTNPP\n" + b"".join(b"u%d,MCOPSTNPP\n" % n for n in range(1_200))
    steps, commands = planned(data, known, is_creating=False)
    assert steps == [Step.NOTHING] + [Step.ASSIGN] * 1_200
    assert [len(command.fields["user_ids"]) for command in commands] == [500, 500, 200]  # type: ignore[arg-type]
    assert {command.kind for command in commands} == {"assign_licences"}


def test_unknown_and_removed_users_are_set_up_only_when_asked() -> None:
    """A mistyped id must not become a user."""
    known = {"gone": user("gone", removed_at=1)}
    data = b"user_id,add,upn\ngone,MCOPSTN1,g@x\nnew,MCOPSTNPP,\n"
    with pytest.raises(FileRefused) as refused:
        planned(data, known, is_creating=False)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["line 2", "line 3"]
    steps, commands = planned(data, known, is_creating=True)
    assert steps == [Step.CREATE, Step.CREATE]
    assert [(command.fields["user_id"], command.fields["upn"]) for command in commands] == [
        ("gone", "g@x"),
        ("new", None),
    ]


def test_the_read_model_keeps_the_latest_record_of_each_key() -> None:
    """It is what a worker would restore, and pages never skip or repeat a name."""
    table = CreditTable()
    for tenant_id in ("b", "a/x", "c"):
        table.take(0, tenant_id.replace("/", "%2F").encode(), encode_stored(Account(tenant_id, TERMS)))
    for number in range(5):
        table.take(0, b"b/u%d" % number, encode_stored(user(f"u{number}", "MCOPSTN1")))
    table.take(0, b"b/u1", encode_stored(user("u1")))
    table.take(0, b"b/u3", None)
    checkpoint = Checkpoint(1, 2, 3, 4, 12, {}, 5)
    table.take(0, CHECKPOINT_KEY, checkpoint.encode())
    assert table.checkpoints == {0: checkpoint}
    assert table.tenants(None, 2) == (["a/x", "b"], "b")
    assert table.tenants("b", 2) == (["c"], None)
    assert table.tenants(None, 9, frozenset({"c", "nobody"})) == (["c"], None)
    assert table.user_ids("b", None, 3) == (["u0", "u1", "u2"], "u2")
    assert table.user_ids("b", "u2", 3) == (["u4"], None)
    changed = table.user("b", "u1")
    assert changed is not None
    assert changed.settings.licences == ()
    assert table.user("b", "u3") is None
    assert table.account("nobody") is None


def statement():  # type: ignore[no-untyped-def]
    lots = [
        Lot("lot-1", 10, 1, 1_000, 5_000_000, 0, False),
        Lot("späte 账=1", 20, 2, 2_000, 3_000_000, 1_500_000, False),
    ]
    entries = [
        EntryRow(100, "usage", -2_000_000, 0, "call-1", "e1"),
        EntryRow(110, "postpaid_usage", 0, -250_000, "=call-2", "e2"),
        EntryRow(120, "forfeiture", -500_000, 0, "lot-1", "e3"),
    ]
    left = [("credits:lot-1", 0), ("credits:späte 账=1", 1_500_000)]
    return make_statement(
        "A", "USD", (50, 200), opening_micros=4_000_000, entries=entries, left=left, funded=["lot-1"], lots=lots
    )


def test_an_audit_asks_the_warehouse_only_for_rejects_that_may_have_left_their_topic() -> None:
    """Yesterday's question must be answered while the warehouse is away, and last year's must not call a refused
    command an applied one."""
    now_ms = 400 * MS_PER_DAY
    settings = Settings()
    assert not needs_warehouse(settings, begin_ms(None, None, now_ms), now_ms)
    assert needs_warehouse(settings, now_ms - 60 * MS_PER_DAY, now_ms)
    assert needs_warehouse(settings, begin_ms(None, now_ms - 30 * MS_PER_DAY, now_ms), now_ms)
    assert needs_warehouse(settings, now_ms - 24 * MS_PER_DAY, now_ms), "ids used a week before count"


def test_a_statement_leads_from_the_opening_to_the_closing_balance() -> None:
    """An auditor adds it up."""
    made = statement()
    assert made.opening_micros + sum(row.amount_micros for row in made.rows) == made.closing_micros == 1_500_000
    assert [row.balance_micros for row in made.rows] == [2_000_000, 2_000_000, 1_500_000]
    assert sum(lot.remaining_micros for lot in made.lots) - made.overdraft_micros == made.closing_micros
    assert problem_of(made) is None
    assert "type `pstn report reconcile`" in (problem_of(made._replace(closing_micros=1)) or "")


def test_a_statement_is_the_same_in_every_form() -> None:
    """CSV is exact, a spreadsheet finds no formula in it, and the PDF is readable whatever the names are."""
    from pypdf import PdfReader

    made = statement()
    lines = list(csv.DictReader(io.StringIO(statement_csv(made))))
    assert [line["line"] for line in lines] == ["opening", "entry", "entry", "entry", "lot", "lot", "closing"]
    assert (lines[0]["balance"], lines[1]["amount"], lines[-1]["balance"]) == ("4.00", "-2.00", "1.50")
    assert lines[2]["about"] == "'=call-2"
    assert lines[2]["billed_later"] == "0.25"
    assert statement_json(made)["closing_balance_micros"] == 1_500_000
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(statement_pdf(made))).pages)
    for wanted in ("Opening balance", "4.00", "call-1", "-2.00", "Closing balance", "1.50", "lot-1"):
        assert wanted in text


def logged(offset: int, at: int, command_id: str, kind: str = "set_user") -> Logged:
    return Logged(partition_of("A", 12), offset, at, Command(command_id, "A", kind, "cli:ada@host", {}))


def test_the_audit_says_of_each_command_what_became_of_it() -> None:
    """Applied, rejected, repeated inside the window, tried again after a reject, and not yet decided."""
    partition = partition_of("A", 12)
    commands = [
        logged(0, 1_000, "one"),
        logged(1, 1_500, "one"),
        logged(2, 9_000, "one"),
        logged(3, 9_100, "two"),
        logged(4, 9_200, "two"),
        logged(5, 9_300, "funds", "add_funds"),
        logged(6, 99_300, "funds", "add_funds"),
        logged(7, 99_400, "last"),
    ]
    refusals = {(partition, 3): Refusal("user_unknown", "who", "A", "two", partition, 3)}
    lines = judge(commands, refusals, {partition: 7}, partition_count=12, window_ms=1_000)
    assert [line.answer.verdict.value for line in lines] == [
        "applied", "repeated", "applied", "rejected", "applied", "applied", "repeated", "pending",
    ]  # fmt: skip


def test_a_part_of_an_assignment_is_told_from_a_refusal_of_a_call() -> None:
    """The same topic holds both."""
    record = RejectedRecord("user_unknown", "never set: x", "A", None, "c", "pstn.account-commands", 1, 7, 1, 1, b"", 5)
    refusal = decode_refusal(codec("rejected").encode_values(record), "pstn.account-commands")
    assert refusal is not None
    assert (refusal.offset, refusal.reason) == (7, "user_unknown")
    assert decode_refusal(codec("rejected").encode_values(record), "pstn.cdrs") is None
    assert answer_of("c", "assign_licences", 1, 7, refusal).verdict is Verdict.PARTLY
    assert answer_of("c", "remove_user", 1, 7, refusal).verdict is Verdict.REJECTED
    assert answer_of("c", "remove_user", 1, 7, None).is_done


@pytest.mark.parametrize("typed", ["1e3", "-5", "1,000.00", "0.0000001"])
@pytest.mark.parametrize("command", ["fund add --amount {}", "fund auto --trigger 100 --amount {}"])
def test_a_wrong_amount_is_refused_before_anything_is_asked_or_sent(command: str, typed: str) -> None:
    """No broker is reached, and the person sees one line."""
    from typer.testing import CliRunner

    from pipeline.__main__ import cli

    where = ("--tenant", "contoso", "--bootstrap", "127.0.0.1:9")
    ended = CliRunner().invoke(cli, [*command.format(typed).split(), *where])
    assert ended.exit_code == 2
    assert ended.stderr.count("\n") == 1
    assert f"--amount: {typed!r} is no amount" in ended.stderr


def test_keys_of_two_tenants_are_two_commands_and_the_first_of_an_id_counts() -> None:
    """`Idempotency-Key` is a client's own word; another client may use the same."""
    assert command_id_of("a", "bc") != command_id_of("ab", "c")
    assert len(command_id_of("a" * 64, "k" * 255)) <= 64
    log = CommandLog()
    name = command_id_of("A", "key")
    first, second = logged(5, 100, name), logged(9, 200, name)
    for each in (second, first, second):
        log.take_command(each)
    assert log.first(name) == first
    assert log.answer(first, {first.partition: 5}).verdict is Verdict.PENDING
    assert log.answer(first, {first.partition: 6}).verdict is Verdict.APPLIED
    log.take_refusal(Refusal("currency_mismatch", "no", "A", name, first.partition, 5))
    assert log.answer(first, {first.partition: 6}).reason == "currency_mismatch"
    log.forget_before(201)
    assert log.first(name) is None


def test_what_the_server_fills_in_is_no_part_of_a_request() -> None:
    """A retry that leaves the time open again is the same request; another amount is another."""
    known = Command("c", "A", "add_funds", "me", {"amount_micros": 5, "purchased_at": 77, "reference": ""})
    asked = {"amount_micros": 5, "purchased_at": None, "reference": ""}
    assert is_same(asked, known, "add_funds")
    assert not is_same(asked | {"amount_micros": 6}, known, "add_funds")
    assert not is_same(asked | {"purchased_at": 78}, known, "add_funds")
    assert not is_same(asked, known, "set_user")


def test_a_callers_bucket_empties_and_is_his_own() -> None:
    """One client's loop takes nothing from another."""
    limit = RateLimit(1)
    for _ in range(2):
        limit.take("loop")
    with pytest.raises(Problem) as refused:
        limit.take("loop")
    assert refused.value.status_code == 429
    limit.take("other")
