"""Which commands a file of users asks for, given who is known and holds what. Pure.

What is so already is left out, so a run that broke off is taken up by running it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from pipeline.cdr.command import LICENCES_OF_A_USER_MAX, Command
from pipeline.debit.account import User
from pipeline.office.csv_users import FileRefused, UserRow

USERS_OF_A_COMMAND_MAX = 500
"""At 64 characters an id this is 33 kB of a message, and some 10 ms of a slice."""


class Step(StrEnum):
    """What a row does."""

    ASSIGN = "assign"
    CREATE = "create"
    NOTHING = "unchanged"


class Plan(NamedTuple):
    """A step for each row, in the file's order, and the commands that do them."""

    steps: tuple[Step, ...]
    commands: tuple[Command, ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(step.value for step in self.steps)


FindUser = Callable[[str], User | None]
"""A tenant's user by id."""


def make_plan(
    rows: Sequence[UserRow],
    find_user: FindUser,
    *,
    tenant_id: str,
    issued_by: str,
    is_creating: bool,
    new_id: Callable[[], str],
) -> Plan:
    """FileRefused when a row is about a user who is not set up and `is_creating` is false."""
    steps: list[Step] = []
    problems: list[str] = []
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    created: list[Command] = []
    for row in rows:
        user = find_user(row.user_id)
        if user is None or user.removed_at is not None:
            if not is_creating:
                problems.append(f"line {row.line}: user {row.user_id!r} is not set up: add --create, or correct it")
            steps.append(Step.CREATE)
            created.append(Command(new_id(), tenant_id, "set_user", issued_by, _new_user(row)))
        elif is_satisfied(row, user):
            steps.append(Step.NOTHING)
        else:
            if len((set(user.settings.licences) | set(row.add)) - set(row.remove)) > LICENCES_OF_A_USER_MAX:
                problems.append(f"line {row.line}: more than {LICENCES_OF_A_USER_MAX} licences for {row.user_id!r}")
            steps.append(Step.ASSIGN)
            groups.setdefault((row.add, row.remove), []).append(row.user_id)
    if problems:
        raise FileRefused(problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else []))
    assigned = [
        Command(
            new_id(),
            tenant_id,
            "assign_licences",
            issued_by,
            {
                "user_ids": user_ids[start : start + USERS_OF_A_COMMAND_MAX],
                "add": list(add),
                "remove": list(remove),
            },
        )
        for (add, remove), user_ids in groups.items()
        for start in range(0, len(user_ids), USERS_OF_A_COMMAND_MAX)
    ]
    return Plan(tuple(steps), (*created, *assigned))


def is_satisfied(row: UserRow, user: User | None) -> bool:
    """Whether the user holds what the row adds and nothing that it removes."""
    if user is None or user.removed_at is not None:
        return False
    held = set(user.settings.licences)
    return held.issuperset(row.add) and held.isdisjoint(row.remove)


def _new_user(row: UserRow) -> dict[str, object]:
    return {
        "user_id": row.user_id,
        "country": row.country,
        "licences": list(row.add),
        "dial_out_policy": None,
        "spend_cap_micros": None,
        "upn": row.upn,
        "display_name": row.display_name,
        "is_resource_account": False,
    }
