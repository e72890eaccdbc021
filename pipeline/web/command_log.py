"""Which commands came by the API, and what the ledger refused: the memory behind `Idempotency-Key`. Pure.

It is fed from the topics themselves, so that a restart forgets nothing and several API processes agree: of two
commands with one id the first on the topic counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from pipeline.cdr.command import Command
from pipeline.office.answer import Answer, Refusal, Verdict, answer_of
from pipeline.office.audit import Logged

PREFIX = "api-"
_DIGEST_BYTES = 20


def command_id_of(tenant_id: str, key: str) -> str:
    """The id of the command that a key of a tenant stands for."""
    return PREFIX + blake2b(f"{len(tenant_id)}:{tenant_id}{key}".encode(), digest_size=_DIGEST_BYTES).hexdigest()


class CommandLog:
    """Takes the records of both topics, each in its order."""

    def __init__(self) -> None:
        self._logged: dict[str, list[Logged]] = {}
        self._refusals: dict[tuple[int, int], Refusal] = {}

    def take_command(self, logged: Logged) -> None:
        """A command may come twice: from its sender at once, and from the topic."""
        if not logged.command.command_id.startswith(PREFIX):
            return
        known = self._logged.setdefault(logged.command.command_id, [])
        if all(each[:2] != logged[:2] for each in known):
            known.append(logged)
            known.sort(key=lambda each: each[:2])

    def take_refusal(self, refusal: Refusal) -> None:
        if (refusal.command_id or "").startswith(PREFIX):
            self._refusals[refusal.partition, refusal.offset] = refusal

    def first(self, command_id: str) -> Logged | None:
        """The command that counts."""
        known = self._logged.get(command_id)
        return known[0] if known else None

    def forget_before(self, at_ms: int) -> None:
        """Commands whose ids the ledger does not remember either."""
        old = [name for name, known in self._logged.items() if known[-1].at < at_ms]
        for name in old:
            for each in self._logged.pop(name):
                self._refusals.pop(each[:2], None)

    def answer(self, logged: Logged, next_offsets: Mapping[int, int]) -> Answer:
        """What became of it, as far as the ledger is known to be."""
        command_id, _, kind = logged.command[:3]
        if logged.offset >= next_offsets.get(logged.partition, 0):
            return Answer(command_id, Verdict.PENDING, logged.partition, logged.offset)
        refusal = self._refusals.get(logged[:2])
        return answer_of(command_id, kind, logged.partition, logged.offset, refusal)


def is_same(given: Mapping[str, object], known: Command, kind: str) -> bool:
    """Whether a request asks for what the known command did; what the server fills in (None here) does not count."""
    return known.kind == kind and all(
        known.fields.get(name) == value for name, value in given.items() if value is not None or name not in FILLED_IN
    )


FILLED_IN = ("purchased_at", "paid_at", "debited_micros", "postpaid_micros")
