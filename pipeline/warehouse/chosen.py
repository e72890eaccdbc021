"""Which rows a report is about: the filter of every report, and what becomes of it in SQL. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY, MS_PER_S, add_months, month_of, parse_time
from pipeline.cdr.call_types import CALL_TYPES, Family
from pipeline.warehouse.store import literal
from pipeline.warehouse.tables import INSTANT_MS_MAX


class PeriodError(ValueError):
    """A period that cannot be meant. One line for a person."""


class Chosen(NamedTuple):
    """Of one tenant or of all; that began at or after `from_ms` and before `to_ms` (None: no bound).

    `user` is a user id, exactly, or a sign-in name in large or small letters; `country` the one that the call
    was rated in, the export's User Location. `is_calling_plans`: without the calls of Direct Routing, which have an
    export of their own (domain page, section 2).
    """

    tenant_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    user: str | None = None
    capability: str | None = None
    country: str | None = None
    is_calling_plans: bool = False


EVERYTHING = Chosen()
_DIRECT_ROUTING = ", ".join(literal(each.name) for each in CALL_TYPES.values() if each.family is Family.DIRECT_ROUTING)


def parse_period(from_text: str | None, to_text: str | None) -> tuple[int | None, int | None]:
    """`2026-03` and `2026-03-31` mean the whole month or day, at both ends; a time with `Z` is exact, the end not
    included. UTC. PeriodError for any other form and for an end that is not after the beginning."""
    from_ms = None if from_text is None else _instant(from_text, is_end=False)
    to_ms = None if to_text is None else _instant(to_text, is_end=True)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise PeriodError(f"the period ends ({to_text}) before it begins ({from_text})")
    return from_ms, to_ms


def _instant(text: str, *, is_end: bool) -> int:
    try:
        if re.fullmatch(r"\d{4}-\d\d", text):
            month_ms = parse_time(f"{text}-01T00:00:00Z")
            return add_months(month_ms, 1) if is_end else month_ms
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return parse_time(f"{text}T00:00:00Z") + (MS_PER_DAY if is_end else 0)
        return parse_time(text)
    except (ValueError, OverflowError):
        raise PeriodError(f"{text!r} is no day (2026-03-31), month (2026-03) or time (2026-03-31T10:00:00Z)") from None


def whole_months(chosen: Chosen) -> Chosen:
    """The same, of all the months that its period touches."""
    from_ms, to_ms = chosen.from_ms, chosen.to_ms
    return chosen._replace(
        from_ms=None if from_ms is None else _month_start(from_ms),
        to_ms=None if to_ms is None else add_months(_month_start(to_ms - 1), 1),
    )


def _month_start(instant_ms: int) -> int:
    return parse_time(f"{month_of(instant_ms)}-01T00:00:00Z")


def calls_condition(chosen: Chosen) -> str:
    """Over `rated_calls`; duplicates are left out. Seconds choose the partitions and the part of the key;
    milliseconds make the bounds exact."""
    conditions = ["outcome != 'duplicate'", *_period(chosen, "start_time")]
    if chosen.tenant_id is not None:
        conditions.insert(1, f"tenant_id = {literal(chosen.tenant_id)}")
    if chosen.user is not None:
        user = literal(chosen.user)
        of_name = f"lowerUTF8(upn) = lowerUTF8({user}) AND {users_condition(chosen)}"
        named = f"SELECT tenant_id, user_id FROM users FINAL WHERE {of_name}"
        conditions.append(f"(user_id = {user} OR (tenant_id, user_id) IN ({named}))")
    if chosen.capability is not None:
        conditions.append(f"capability = {literal(chosen.capability)}")
    if chosen.country is not None:
        conditions.append(f"rating_country = {literal(chosen.country)}")
    if chosen.is_calling_plans:
        conditions.append(f"call_type NOT IN ({_DIRECT_ROUTING})")
    return " AND ".join(conditions)


def direct_routing_condition(chosen: Chosen) -> str:
    """Over `rated_calls`: the calls that `is_calling_plans` leaves out."""
    return f"{calls_condition(chosen._replace(is_calling_plans=False))} AND call_type IN ({_DIRECT_ROUTING})"


def users_condition(chosen: Chosen) -> str:
    """Over anything with a `tenant_id`: the tenant alone."""
    return "1" if chosen.tenant_id is None else f"tenant_id = {literal(chosen.tenant_id)}"


def timed_condition(chosen: Chosen, column: str) -> str:
    """Over a table with the times `column` and `column`_ms: tenant and period."""
    return " AND ".join([users_condition(chosen), *_period(chosen, column)])


def months_condition(chosen: Chosen, column: str) -> str:
    """Over a column of `YYYY-MM`: the months that the period touches, and the tenant."""
    conditions = [users_condition(chosen)]
    if chosen.from_ms is not None:
        conditions.append(f"{column} >= {literal(month_of(chosen.from_ms))}")
    if chosen.to_ms is not None:
        conditions.append(f"{column} <= {literal(month_of(chosen.to_ms - 1))}")
    return " AND ".join(conditions)


def _period(chosen: Chosen, column: str) -> list[str]:
    conditions = []
    if chosen.from_ms is not None:
        conditions.append(
            f"{column} >= toDateTime({_clipped_s(chosen.from_ms)}, 'UTC') AND {column}_ms >= {chosen.from_ms}"
        )
    if chosen.to_ms is not None:
        conditions.append(f"{column} <= toDateTime({_clipped_s(chosen.to_ms)}, 'UTC') AND {column}_ms < {chosen.to_ms}")
    return conditions


def _clipped_s(instant_ms: int) -> int:
    """Seconds as a `DateTime` can hold them."""
    return min(max(instant_ms, 0), INSTANT_MS_MAX) // MS_PER_S
