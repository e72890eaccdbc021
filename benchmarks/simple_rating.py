"""What the peers of `stream.py` do with a call: the longest prefix, a price, one balance. No rule of the product."""

from __future__ import annotations

from typing import Any

from pipeline.base.resources_io import resource_path
from pipeline.charge.tables_io import load_tables
from pipeline.charge.tariff import RateRow

_DECK = load_tables(resource_path("rating_tables")).tariffs["acs_proxy_usd"].decks[-1]


def simple_price(cdr: dict[str, Any]) -> tuple[RateRow | None, int, int]:
    """Row, started minutes, micro-units."""
    row = _DECK.find("outbound", cdr["callee_number"][1:], "geographic").row
    minutes = -(-cdr["duration_s"] // 60)
    return row, minutes, minutes * row.rate_micros_per_minute if row else 0


def rated_record(
    cdr: dict[str, Any],
    row: RateRow | None,
    minutes: int,
    charge_micros: int,
    balance_micros: int,
    partition: int,
    offset: int,
    now_ms: int,
) -> dict[str, Any]:
    """A rated call of the usual size."""
    return cdr | {
        "direction": "outbound",
        "rating_country": "US",
        "destination_country": "DE",
        "destination_name": "Germany",
        "number_class": "geographic",
        "scope": "international",
        "capability": "MCOPSTNPP",
        "outcome": "charged",
        "reason": None,
        "billable_minutes": minutes,
        "pool_id": None,
        "pool_minutes": 0,
        "charged_minutes": minutes,
        "tariff": "acs_proxy_usd",
        "table_version": ["acs_proxy_usd", "2025-10-15", "0123456789ab"],
        "rate_prefix": row and row.prefix,
        "rate_micros_per_minute": row and row.rate_micros_per_minute,
        "connection_fee_micros": 0,
        "price_micros": charge_micros,
        "debited_micros": charge_micros,
        "lots": [{"lot_id": "c2", "amount_micros": charge_micros}],
        "overdraft_micros": 0,
        "postpaid_micros": 0,
        "currency": "USD",
        "balance_after_micros": balance_micros,
        "rate_is_ambiguous": False,
        "source_topic": "cdrs",
        "source_partition": partition,
        "source_offset": offset,
        "received_at": now_ms,
        "ledger_epoch": 0,
        "applied_seq": offset,
        "rules_version": "1-01234567-phonenumbers-9.0.43",
    }
