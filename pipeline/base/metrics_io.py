"""What on-call staff watch. Names are final: dashboards and alerts lean on them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CALLS_RATED = Counter("pstn_calls_rated_total", "Calls with a result", ["outcome"])
RECORDS_REJECTED = Counter("pstn_records_rejected_total", "Records that could not be rated or obeyed", ["reason"])
RECORDS_APPLIED = Counter("pstn_records_applied_total", "Records of either input applied", ["partition"])
RECORDS_FORWARDED = Counter("pstn_records_forwarded_total", "Records found on a partition that is not their tenant's")
EVENTS_PUBLISHED = Counter("pstn_account_events_total", "Account events", ["kind"])
SLICE_SECONDS = Histogram(
    "pstn_slice_seconds",
    "One slice, by step",
    ["step"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SLICE_RECORDS = Histogram("pstn_slice_records", "Records in a slice", buckets=(1, 10, 100, 500, 1000, 2000, 5000))
LAG_RECORDS = Gauge("pstn_lag_records", "Records not yet applied, markers included", ["role", "topic", "partition"])
LAG_SECONDS = Gauge(
    "pstn_lag_seconds", "Age of the oldest record not yet applied, 0 when there is none", ["role", "topic", "partition"]
)
BROKER_AWAY = Gauge("pstn_broker_away", "1 while the brokers do not answer this worker", ["role"])
UNSTABLE_RECORDS = Gauge(
    "pstn_unstable_records", "High watermark less last stable offset: an open transaction", ["topic", "partition"]
)
OWNED_PARTITIONS = Gauge("pstn_owned_partitions", "Partitions owned by this worker", ["role"])
REBALANCES = Counter("pstn_rebalances_total", "Rebalances seen", ["role"])
RESTORES = Counter("pstn_restores_total", "Partitions restored from the credit table")
RESTORE_RECORDS = Counter("pstn_restore_records_total", "Records read back from the credit table and seen-calls")
RESTORE_SHARE = Gauge(
    "pstn_restore_share", "Share of the topic that is read, while a partition is restored", ["partition", "topic"]
)
RESTORE_SECONDS = Histogram("pstn_restore_seconds", "Time of a restore", buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60))
PARTITIONS_DROPPED = Counter("pstn_partitions_dropped_total", "Owners that let go on an error", ["cause"])
PARTITIONS_PARKED = Gauge("pstn_partitions_parked", "Partitions that failed three times at one offset: page somebody")
INPUT_TRIMMED = Gauge(
    "pstn_input_trimmed_records",
    "Records deleted before they were applied, on a partition that stands until `pstn ledger skip`: page somebody",
    ["topic", "partition"],
)
EFFECTS_HANDLED = Counter("pstn_effects_handled_total", "Records handed to the warehouse, mail or payment", ["role"])
EFFECT_FAILURES = Counter("pstn_effect_failures_total", "Batches whose effect failed and is tried again", ["role"])
PAYMENTS_OPEN = Gauge("pstn_payments_open", "Recharges asked of the gateway and not answered yet")
PAYMENTS_OPEN_SECONDS = Gauge("pstn_payments_open_seconds", "Age of the oldest open payment: page above an hour")
PAID_AFTER_FAILURE = Counter(
    "pstn_paid_after_failure_total", "Recharges that succeeded after they were reported failed"
)
NOTICES = Counter("pstn_notices_total", "Attempts to deliver a notice, by the state after it", ["channel", "state"])
NOTICES_WAITING = Gauge("pstn_notices_waiting", "Notices not delivered yet", ["partition"])
