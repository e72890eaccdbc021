"""From what a person asks for to what is simulated: the period, and the tariffs that the tables offer. Pure."""

from __future__ import annotations

from pipeline.base.calendar import MS_PER_DAY, MS_PER_MINUTE, parse_time
from pipeline.charge.tables import Tables
from pipeline.embedded.customers import Plan


def make_plan(
    tables: Tables, *, tenants: int, calls: int, days: float, begin: str | None, now_ms: int, tariff: str | None = None
) -> Plan:
    """The period ends now (on a whole minute) unless `begin` is given; ValueError when that is not in the past."""
    length_ms = int(days * MS_PER_DAY)
    until_ms = now_ms - now_ms % MS_PER_MINUTE
    from_ms = until_ms - length_ms
    if begin is not None:
        from_ms = parse_time(begin)
        until_ms = min(until_ms, from_ms + length_ms)
    if from_ms >= until_ms:
        raise ValueError(f"--from {begin} is not in the past")
    subscription, per_minute, currency = _tariffs(tables, tariff)
    return Plan(
        tenants=tenants,
        calls=calls,
        from_ms=from_ms,
        until_ms=until_ms,
        tariff=subscription,
        currency=currency,
        tariff_per_minute_conferencing=per_minute,
    )


def _tariffs(tables: Tables, wanted: str | None) -> tuple[str, str | None, str]:
    """The first subscription tariff, and the per-minute one of its currency where there is one."""
    subscriptions = [t for t in tables.tariffs.values() if t.kind == "subscription" and wanted in {None, t.name}]
    if not subscriptions:
        raise ValueError("the rating tables have no tariff of kind subscription: see tariffs.csv")
    chosen = subscriptions[0]
    per_minute = [
        t.name for t in tables.tariffs.values() if t.kind == "per_minute_conferencing" and t.currency == chosen.currency
    ]
    return chosen.name, per_minute[0] if per_minute else None, chosen.currency
