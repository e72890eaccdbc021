"""`pstn rejected`: what was refused is shown, and goes through again exactly once."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from typer.testing import CliRunner, Result

from pipeline.base.avro import codec
from pipeline.base.ids import partition_of
from pipeline.base.kafka_io import KafkaClients, read_to_end
from pipeline.base.settings_io import Settings
from pipeline.cli.rejected import app
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.warehouse.rejects import Reject, parse_id, plan_replay
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store_io import migrate, open_store
from tests.avro_values import sample_of
from tests.warehouse_records import EPOCH_MS, consumed, rated_call, raw, rejected

ORIGINAL = codec("cdr").encode(sample_of("cdr") | {"tenant_id": "t1", "usage_id": "u1"})
DAY_MS = 86_400_000


def reject(offset: int, **fields: Any) -> Reject:
    """A refused call of t1, as the warehouse has it."""
    plain = Reject("pstn.cdrs", 0, offset, "t1", "user_unknown", "", "u1", "", EPOCH_MS + offset, 9, ORIGINAL)
    return plain._replace(**fields)


COMMAND = codec("account_command").encode(sample_of("account_command"))
OTHER = {"usage_id": "u2"}


@pytest.mark.parametrize(
    ("each", "rated", "words"),
    [
        (reject(1), {("t1", "u1")}, "has a result already"),
        (reject(1, original=b"junk"), set(), "still cannot be read"),
        (reject(1, original=b""), set(), "purged"),
        (reject(1, ledger_seq=0), set(), "no call"),
        (reject(1, topic="pstn.rated-calls"), set(), "takes neither"),
        (
            reject(1, topic="pstn.account-commands", command_id="c", original=COMMAND, received_at_ms=EPOCH_MS - 1),
            set(),
            "give the command again",
        ),
    ],
)
def test_what_could_be_done_twice_or_not_at_all_is_left_with_a_reason(
    each: Reject, rated: set[tuple[str, str]], words: str
) -> None:
    plan = plan_replay([each], rated, now_ms=EPOCH_MS + 7 * DAY_MS, window_ms=7 * DAY_MS)
    assert plan.sent == []
    assert words in plan.left[0][1]


def test_of_several_refusals_of_a_call_the_latest_is_sent_and_calls_keep_their_order() -> None:
    """Each replay that fails again leaves one more reject of the same call."""
    given = [reject(3), reject(1), reject(2, **OTHER), reject(9, tenant_id="t2")]
    plan = plan_replay(given, set(), now_ms=EPOCH_MS, window_ms=1)
    assert [(each.tenant_id, each.offset) for each in plan.sent] == [("t1", 2), ("t1", 3), ("t2", 9)]
    assert [each.offset for each, _ in plan.left] == [1]


@pytest.mark.parametrize("text", ["pstn.cdrs", "pstn.cdrs:1", "a:b:c", ""])
def test_an_id_that_is_none_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="TOPIC:PARTITION:OFFSET"):
        parse_id(text)
    assert parse_id("my:prefix.cdrs:3:17") == ("my:prefix.cdrs", 3, 17)


def run(*arguments: str, broker: EmbeddedBroker, prefix: str, url: str) -> Result:
    environment = {
        "PSTN_EMBEDDED_BROKER": "1",
        "PSTN_BOOTSTRAP_SERVERS": broker.bootstrap,
        "PSTN_TOPIC_PREFIX": prefix,
        "PSTN_WAREHOUSE": url,
        "COLUMNS": "220",
    }
    return CliRunner().invoke(app, arguments, env=environment)


def load(url: str, *records: Any) -> None:
    store = open_store(url)
    migrate(store)
    for block in blocks_of(records):
        store.insert(block.table.name, block.table.column_types, block.columns)
    store.close()


async def calls_on_topic(broker: EmbeddedBroker, prefix: str) -> list[Any]:
    settings = Settings(bootstrap_servers=broker.bootstrap, topic_prefix=prefix, embedded_broker=True)
    clients = KafkaClients(settings)
    partition = TopicPartition(settings.topic("cdrs"), partition_of("t1", PARTITION_COUNT))
    found: list[Any] = []
    async with clients.reading() as consumer:
        end = await clients.high_watermark(partition)
        await read_to_end(consumer, partition, start_offset=0, end_offset=end, stall_s=5, take=found.extend)
    return found


def test_a_mended_call_is_sent_as_it_was_and_not_again_once_it_has_a_result(
    embedded_broker: EmbeddedBroker, topic_prefix: str, warehouse_url: str
) -> None:
    now_ms = time.time_ns() // 1_000_000
    from pipeline.base.topics_io import connect_admin, touch_topics

    touch_topics(connect_admin(embedded_broker.bootstrap), topic_prefix, ("cdrs", "account-commands"))
    refused = rejected(
        5,
        tenant_id="t1",
        usage_id="u1",
        command_id=None,
        reason="user_unknown",
        original=ORIGINAL,
        received_at=now_ms,
        source_topic=f"{topic_prefix}cdrs",
    )
    load(warehouse_url, consumed("rejected", refused), raw(b"\xff junk", 7))
    place = {"broker": embedded_broker, "prefix": topic_prefix, "url": warehouse_url}

    listed = json.loads(run("list", "--reason", "user_unknown", "--format", "json", **place).stdout)
    [shown] = listed
    assert (shown["reject"], shown["tenant_id"]) == (f"{topic_prefix}cdrs:0:5", "t1")
    table = run("list", **place)
    assert "send set_user for the user, then replay" in table.stdout
    assert [line for line in table.stdout.splitlines() if "tenants: 0," in line], "nobody knows whose the junk is"
    original = run("show", shown["reject"], "--format", "json", **place)
    assert json.loads(original.stdout)["original"]["usage_id"] == "u1"
    junk = run("show", "pstn.rated-calls:0:7", **place)
    assert junk.exit_code == 0, junk.stderr
    assert b"\xff junk".hex() in junk.stdout
    assert "None" not in junk.stdout

    assert run("replay", **place).exit_code == 2
    dry = run("replay", "--tenant", "t1", "--dry-run", "--format", "json", **place)
    assert json.loads(dry.stdout) == {"sent": False, "rejects": [shown["reject"]], "left": {}}
    assert asyncio.run(calls_on_topic(embedded_broker, topic_prefix)) == []

    sent = run("replay", shown["reject"], **place)
    assert (sent.exit_code, sent.stdout.splitlines()[0][:14]) == (0, "1 sent again; "), sent.stderr
    [call] = asyncio.run(calls_on_topic(embedded_broker, topic_prefix))
    assert (call.value, call.key, dict(call.headers)) == (ORIGINAL, b"t1", {"replay-of": shown["reject"].encode()})

    load(warehouse_url, consumed("rated_call", rated_call(9, usage_id="u1")))
    again = run("replay", "--tenant", "t1", **place)
    assert "0 sent again" in again.stdout
    assert "1 left: the call has a result already" in again.stdout
    assert len(asyncio.run(calls_on_topic(embedded_broker, topic_prefix))) == 1


def test_a_reject_that_is_not_there_is_one_line(
    embedded_broker: EmbeddedBroker, topic_prefix: str, folder_url: str
) -> None:
    load(folder_url)
    result = run("show", "pstn.cdrs:1:1", broker=embedded_broker, prefix=topic_prefix, url=folder_url)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reason", "user_unknow"], "--reason 'user_unknow' is none: did you mean 'user_unknown'?"),
        (["--reason", "?"], "--reason '?' is none: it may be payload_not_avro, "),
        (["--tenant", "nobody"], "the warehouse knows no tenant 'nobody'"),
    ],
)
def test_a_reason_and_a_tenant_that_are_not_there_are_one_line(
    embedded_broker: EmbeddedBroker, topic_prefix: str, folder_url: str, arguments: list[str], words: str
) -> None:
    """`nothing was refused` would be believed."""
    load(folder_url)
    for command in (["list"], ["replay", "--dry-run"]):
        result = run(*command, *arguments, broker=embedded_broker, prefix=topic_prefix, url=folder_url)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
        assert words in result.stderr


def test_a_tenant_of_whom_only_refusals_are_known_is_known(
    embedded_broker: EmbeddedBroker, topic_prefix: str, folder_url: str
) -> None:
    load(folder_url, consumed("rejected", rejected(1, tenant_id="t7", reason="tenant_unknown", original=ORIGINAL)))
    place = {"broker": embedded_broker, "prefix": topic_prefix, "url": folder_url}
    result = run("list", "--tenant", "t7", "--to", "2020-01", **place)
    assert (result.exit_code, result.stdout[:20]) == (0, "nothing was refused:")
