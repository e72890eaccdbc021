"""The owners of invoices and notices under `kill -9`; `tests/journal_kills.py` says how it is judged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.embedded.kafka_io import KafkaNode
from tests.journal_kills import play

LIVES = 10


@pytest.mark.slow
def test_invoices_have_no_gap_and_mails_no_double_that_a_record_could_have_prevented(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A gap is a tax audit, a second invoice a customer who pays twice, a mail too many one that nobody believes."""
    found = asyncio.run(play(kafka.bootstrap, topic_prefix, seed=7, lives=LIVES, folder=tmp_path))
    assert found["kills"] == LIVES
    assert found["kills at steps"] >= LIVES // 3
    assert min(found["invoices and credit notes"], found["notices"]) > LIVES
