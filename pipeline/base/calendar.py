"""Instants are `int` milliseconds since 1970-01-01T00:00Z; months are calendar months in UTC (R47, D2)."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

MS_PER_S: Final = 1_000
MS_PER_MINUTE: Final = 60 * MS_PER_S
MS_PER_HOUR: Final = 60 * MS_PER_MINUTE
MS_PER_DAY: Final = 24 * MS_PER_HOUR

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339_UTC: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


def to_datetime(instant_ms: int) -> datetime:
    """Exact for every instant of the years 1 to 9999; OverflowError outside."""
    return _EPOCH + timedelta(milliseconds=instant_ms)


def from_datetime(moment: datetime) -> int:
    """Whole milliseconds; what is finer is cut off."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_months: Final[dict[int, str]] = {}
_MONTHS_MAX: Final = 4_096


def month_of(instant_ms: int) -> str:
    """`YYYY-MM` of the instant, in UTC."""
    day = instant_ms // MS_PER_DAY
    month = _months.get(day)
    if month is None:
        date = _EPOCH + timedelta(days=day)
        if len(_months) >= _MONTHS_MAX:
            _months.clear()
        month = _months[day] = f"{date.year:04d}-{date.month:02d}"
    return month


def day_of(instant_ms: int) -> int:
    """Number of the UTC day, from 1970-01-01."""
    return instant_ms // MS_PER_DAY


def add_months(instant_ms: int, months: int) -> int:
    """Same day and time `months` later; a day that the month lacks becomes its last (29 Feb -> 28 Feb, D10)."""
    moment = to_datetime(instant_ms)
    index = moment.year * 12 + moment.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return from_datetime(moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1])))


def parse_time(text: str) -> int:
    """RFC 3339 with `Z` -> ms. ValueError on any other form; digits beyond the millisecond are cut off."""
    match = _RFC3339_UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time in RFC 3339 with Z")
    date_text, hour_text, minute_text, second_text, fraction = match.groups()
    hour, minute, second = int(hour_text), int(minute_text), int(second_text)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is no time of a day")
    ms = int(fraction.ljust(3, "0")[:3]) if fraction else 0
    return _day_starts_at(date_text) + ((hour * 60 + minute) * 60 + second) * MS_PER_S + ms


@lru_cache(maxsize=4_096)
def _day_starts_at(date_text: str) -> int:
    return from_datetime(datetime(int(date_text[:4]), int(date_text[5:7]), int(date_text[8:]), tzinfo=UTC))


def format_time(instant_ms: int) -> str:
    """RFC 3339 with `Z`; a fraction of a second only when it is not zero. OverflowError outside the years 1 to 9999."""
    day, ms = divmod(instant_ms, MS_PER_DAY)
    second, fraction_ms = divmod(ms, MS_PER_S)
    tail = f".{fraction_ms:03d}Z" if fraction_ms else "Z"
    return f"{_date_of_day(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{tail}"


@lru_cache(maxsize=4_096)
def _date_of_day(day: int) -> str:
    date = _EPOCH + timedelta(days=day)
    return f"{date.year:04d}-{date.month:02d}-{date.day:02d}"


@lru_cache(maxsize=4_096)
def next_month_starts_at(month: str) -> int:
    """The end of a month `YYYY-MM`, exclusive: the instant at which the next one starts."""
    year, number = int(month[:4]), int(month[5:])
    last_day = monthrange(year, number)[1]
    return from_datetime(datetime(year, number, last_day, tzinfo=UTC)) + MS_PER_DAY
