"""The notifier of a partition: what is due is tried, and what came of it is written into the journal.

Mails and webhooks have places of their own, and an address one at a time: a dead mail server holds back mails, a dead
endpoint itself, and neither anything else.
"""

from __future__ import annotations

import asyncio
import random
import time

import structlog

from pipeline.base import metrics_io as metrics
from pipeline.emit.journal import Desk
from pipeline.emit.journal_io import JournalWriter
from pipeline.emit.notify.desk import NoticeDesk
from pipeline.emit.notify.notice import DEAD, MAIL, SENT, WEBHOOK, Notice, ended, failed
from pipeline.emit.notify.post_io import Outcome, Post
from pipeline.emit.notify.remind_io import Reminding

log = structlog.get_logger(__name__)

# Of one partition. A black hole takes 30 s of a mail's place: 4 places try 8 mails a minute and wait for better times.
_PLACES = {MAIL: 4, WEBHOOK: 16}
_LOOK_S = 0.25
_FORGET_INTERVAL_S = 600.0
_JITTER_PERCENT_MAX = 20


class Delivery:
    """The `work` of a notice journal's owner."""

    def __init__(self, *, post: Post, remind: Reminding, number: int) -> None:
        self._post = post
        self._remind = remind
        self._number = number

    async def __call__(self, desk: Desk, writer: JournalWriter) -> None:
        assert isinstance(desk, NoticeDesk)
        under_way: dict[asyncio.Task[Outcome], Notice] = {}
        reminding = asyncio.create_task(self._remind(desk, writer))
        forget_at_s = 0.0
        try:
            while True:
                now_ms = time.time_ns() // 1_000_000
                for channel, places in _PLACES.items():
                    room = places - sum(notice.channel == channel for notice in under_way.values())
                    for notice in desk.start_due(now_ms, channel, room):
                        under_way[asyncio.create_task(self._post.send(notice))] = notice
                if under_way:
                    done, _ = await asyncio.wait(under_way, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        desk.settle(_outcome_of(under_way.pop(task), task.result()))
                    if done:
                        await writer.write()
                else:
                    await asyncio.sleep(_LOOK_S)
                if time.monotonic() >= forget_at_s:
                    forget_at_s = time.monotonic() + _FORGET_INTERVAL_S
                    desk.forget(now_ms)
                    await writer.write(is_due=False)
                if reminding.done():
                    reminding.result()
                metrics.NOTICES_WAITING.labels(str(self._number)).set(desk.waiting_count)
        finally:
            for each in (reminding, *under_way):
                each.cancel()
            metrics.NOTICES_WAITING.remove(str(self._number))


def _outcome_of(notice: Notice, outcome: Outcome) -> Notice:
    now_ms = time.time_ns() // 1_000_000
    match outcome.kind:
        case "sent":
            after = ended(notice, SENT, now_ms=now_ms)
        case "refused":
            after = ended(notice, DEAD, now_ms=now_ms, error=outcome.error)
        case _:
            jitter_percent = random.randint(0, _JITTER_PERCENT_MAX)
            after = failed(
                notice,
                outcome.error or "",
                now_ms=now_ms,
                jitter_percent=jitter_percent,
                is_away=outcome.kind == "away",
            )
    metrics.NOTICES.labels(notice.channel, after.state).inc()
    say = log.error if after.state == DEAD else log.warning if outcome.error else log.info
    say(
        "notice_tried",
        notice_id=notice.notice_id,
        tenant_id=notice.tenant_id,
        kind=notice.kind,
        channel=notice.channel,
        state=after.state,
        attempt_count=after.attempt_count,
        error=after.error,
    )
    return after
