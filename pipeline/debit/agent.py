"""The rating agent: decides one slice at a time. It computes; what comes in and goes out is the partition's affair."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable

from pipeline.debit.partition_io import Decided, Decision
from pipeline.emit.encode import Outputs


async def rate(decisions: AsyncIterable[Decision]) -> None:
    """Answers each Decision. Faust acknowledges an event whose agent raises, so an error travels in the answer."""
    async for decision in decisions:
        if decision.answer.cancelled():
            continue
        try:
            started_s = time.thread_time()
            outputs = Outputs()
            # Encoded as they are decided: kept until the commit they would take 5 kB a record.
            decided = decision.ledger.apply_slice(decision.records, outputs.add)
            outputs.close(decided)
            decision.answer.set_result(Decided(decided, outputs, time.thread_time() - started_s))
        except Exception as error:
            decision.answer.set_exception(error)
