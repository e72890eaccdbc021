"""Notices: each once, as a mail that no name can break, whatever moment the notifier dies in."""

from __future__ import annotations

import asyncio
import email
import email.policy
import itertools
import json
import os
from pathlib import Path

import pytest

from pipeline.base.avro import DecodeError, codec
from pipeline.base.record import Consumed
from pipeline.emit.notify import outbox_io
from pipeline.emit.notify.message import KINDS, compose
from pipeline.emit.notify.outbox_io import Notifier, file_name
from pipeline.emit.notify.reminder import REMINDER
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of

SAMPLE = AccountEvent(**sample_of("account_event"))
CONTRACT_KINDS = {
    "recharge_requested", "recharge_succeeded", "recharge_failed", "recharge_budget_reached", "funds_added",
    "call_refunded", "balance_zero", "service_suspended", "service_restored", "pool_at_80", "pool_exhausted",
    "lot_expiring", "lot_expired", "spend_cap_reached", "switched_to_postpaid", "rate_missing",
}  # fmt: skip


def event(number: int, kind: str = "balance_zero", **changes: object) -> AccountEvent:
    tenant_id = str(changes.get("tenant_id", "contoso"))
    return SAMPLE._replace(event_id=f"{tenant_id}:cdrs:7:{number}:0", kind=kind, **changes)


def consumed(*events: AccountEvent) -> list[Consumed]:
    encoded = [codec("account_event").encode_values(each) for each in events]
    return [Consumed("pstn.account-events", 7, index, 0, b"contoso", value) for index, value in enumerate(encoded)]


def put_out(folder: Path, records: list[Consumed]) -> None:
    asyncio.run(Notifier(folder=folder).handle(records))


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "notices.jsonl").read_text().splitlines()]


def read(mail: Path) -> email.message.EmailMessage:
    return email.message_from_bytes(mail.read_bytes(), policy=email.policy.default)


def test_every_event_is_either_a_notice_or_knowingly_none():
    """A new kind of event must be decided about, not forgotten."""
    unheard = {"recharge_requested", "funds_added", "call_refunded", "rate_missing"}
    assert CONTRACT_KINDS - unheard == KINDS - {REMINDER}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_notice_is_a_whole_mail_that_says_what_happened(kind, tmp_path):
    """A mail program must read it, and a person must learn whose account, how much and what to do."""
    notice = event(1, kind, user_id="anna", amount_micros=100_500_000)
    put_out(tmp_path, consumed(notice))
    (mail,) = tmp_path.glob("*.eml")
    assert b"\n" not in mail.read_bytes().replace(b"\r\n", b"")
    message = read(mail)
    assert message["From"].addresses[0].addr_spec == "credits@pstn.invalid"
    assert message["To"].addresses[0].addr_spec == "contoso@tenants.pstn.invalid"
    assert message["Subject"].startswith("[contoso] ")
    assert message["Date"].datetime.isoformat() == "2026-03-02T10:00:00+00:00"
    assert message.defects == []
    text = message.get_content()
    for words in ("contoso", "anna", "-0.0015 USD", "100.50 USD", notice.event_id, notice.details["recharge_id"]):
        assert words in text
    assert "{" not in text + message["Subject"]
    (line,) = logged(tmp_path)
    assert line["event_id"] == notice.event_id
    assert line["mail"] == mail.name


def test_what_no_person_needs_to_hear_of_makes_no_mail(tmp_path):
    """Ledger entries, other kinds and bytes of strangers pass by."""
    entry = codec("ledger_entry").encode(sample_of("ledger_entry"))
    records = consumed(*(event(number, kind) for number, kind in enumerate(sorted(CONTRACT_KINDS - KINDS))))
    put_out(tmp_path, [*records, records[0]._replace(value=entry), records[0]._replace(value=b"nonsense")])
    assert list(tmp_path.iterdir()) == []


def test_a_schema_from_the_future_stops_the_notifier(tmp_path):
    """A newer ledger wrote it: passing by would lose notices until somebody upgrades."""
    (record,) = consumed(event(1))
    unknown = record._replace(value=b"\xc3\x01" + bytes(8) + record.value[10:])
    with pytest.raises(DecodeError, match="none that account_event ever had"):
        put_out(tmp_path, [unknown])


def test_a_redelivered_batch_changes_nothing(tmp_path):
    """Redelivery is normal: same files, same bytes, no second line."""
    records = consumed(event(1), event(2), event(1))
    put_out(tmp_path, records)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert len(before) == 3
    put_out(tmp_path, records)
    put_out(tmp_path, consumed(event(2)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert [line["event_id"] for line in logged(tmp_path)] == ["contoso:cdrs:7:1:0", "contoso:cdrs:7:2:0"]


def dies_at(step: int, folder: Path, records: list[Consumed]) -> bool:
    """Puts the notices out in a process that dies, with nothing tidied up, at the given step; whether it did."""
    child = os.fork()
    if child == 0:
        steps = itertools.count()

        def dying(real):
            def call(*given):
                if next(steps) == step:
                    os._exit(9)
                return real(*given)

            return call

        outbox_io.os.fsync = dying(os.fsync)
        outbox_io.Path.replace = dying(Path.replace)
        outbox_io.json.dumps = dying(json.dumps)
        try:
            put_out(folder, records)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_death_at_any_step_loses_no_notice_and_repeats_no_line(tmp_path):
    """kill -9 between the file, the line and the new name: afterwards exactly one of each."""
    records = consumed(*(event(number) for number in range(3)))
    for step in itertools.count():
        folder = tmp_path / str(step)
        died = dies_at(step, folder, records)
        dies_at(step // 2, folder, records)  # and once more on the way
        put_out(folder, records)
        assert sorted(path.name for path in folder.glob("*.eml")) == sorted(file_name(event(n)) for n in range(3))
        assert sorted(line["event_id"] for line in logged(folder)) == [event(number).event_id for number in range(3)]
        assert list((folder / "pending").iterdir()) == []
        if not died:
            break
    assert step > 8


def test_half_a_line_left_by_a_crash_is_written_anew(tmp_path):
    """A full disk or a power cut may leave half a line: readers of the log must not trip over it."""
    put_out(tmp_path, consumed(event(1)))
    notice = event(2)
    (tmp_path / "pending" / file_name(notice)).write_bytes(b"half")
    with (tmp_path / "notices.jsonl").open("a") as log:
        log.write(outbox_io.log_line(notice)[:-20])
    put_out(tmp_path, consumed(event(1), notice))
    assert [line["event_id"] for line in logged(tmp_path)] == [event(1).event_id, notice.event_id]
    assert read(tmp_path / file_name(notice))["Message-ID"] == compose(notice)["Message-ID"]


def test_batches_of_several_partitions_do_not_disturb_each_other(tmp_path):
    """The notifier is called for several partitions at once."""
    notifier = Notifier(folder=tmp_path)

    async def all_at_once() -> None:
        batches = [consumed(*(event(100 * batch + number) for number in range(5))) for batch in range(8)]
        await asyncio.gather(*(notifier.handle(records) for records in batches))
        await notifier.close()

    asyncio.run(all_at_once())
    assert len(logged(tmp_path)) == len(list(tmp_path.glob("*.eml"))) == 40


NASTY = ["x\r\nBcc: all@example.com", "../../etc/passwd", "a/b", "😀" * 64, ".", "-", "\x00", 'a"<b>@c', "\u2028Cc: x",
         "tenant with spaces", "CON", "ü" * 64, "=?utf-8?q?x?=", "\u202egnp.exe"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_no_name_can_forge_a_header_or_leave_the_folder(name, tmp_path):
    """Tenants choose their ids, and users theirs."""
    folder = tmp_path / "outbox"
    notice = event(1, "spend_cap_reached", tenant_id=name, user_id=name, currency="U\r\nX: 1", details={name: name})
    put_out(folder, consumed(notice))
    assert [path.name for path in tmp_path.iterdir()] == ["outbox"]
    (mail,) = folder.glob("*.eml")
    assert mail.name.isascii()
    message = read(mail)
    assert set(message.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
        "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert len(message["To"].addresses) == 1
    assert message["To"].addresses[0].domain == "tenants.pstn.invalid"
    assert "\n" not in message["Subject"]


def test_events_with_like_names_have_files_of_their_own():
    """A file shared by two events would swallow the second notice."""
    names = [file_name(event(1, tenant_id=name)) for name in ["a/b", "a-b", "a b", "A-b"]]
    assert len({name.lower() for name in names}) == 4
    assert compose(event(1))["Message-ID"] == compose(event(1))["Message-ID"] != compose(event(2))["Message-ID"]


def test_a_folder_that_cannot_be_made_fails_the_batch(tmp_path):
    """Then nothing is committed, and the notices come again."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        put_out(tmp_path / "file", consumed(event(1)))
