"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).resolve().parents[1] / "golden" / "examples" / "tables"  # made-up prices; the oracle is slow
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """One deployment, its faults and their dice. `sabotage`: how its ledger workers are broken on purpose."""

    seed: int = 1
    calls: int = 2_000
    workers: int = 2
    faults: int = 8
    kinds: tuple[str, ...] = ()
    partitions: int = 6
    tenants: int = 24
    warehouse: str = "server"
    session_timeout_ms: int = 6_000
    broker_stop_s: float = 60.0
    lots: int = 500
    settle_s: float = 120.0
    sabotage: str | None = None
    helpers: tuple[str, ...] = ("loader", "notifier", "payments")
    """Processes besides the ledger's, each with its roles: one process starts sooner than three."""
    pace: float = 1.0
    """Of the rests before and after what a fault does."""
