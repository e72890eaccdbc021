"""Takes personal data out of the warehouse, and waits until it is out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pipeline.warehouse.privacy import PURGES, PURGES_COLUMNS, SELECT_PURGES, Purge, Step, select_user_ids
from pipeline.warehouse.store import Store, StoreAway

_POLL_S = 0.2
# A mutation rewrites the parts it touches: minutes for a year of calls.
_MUTATION_S_MAX = 3_600
_OPEN_MUTATIONS = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND is_done = 0"


def known_purges(store: Store) -> list[Purge]:
    """Every wish that was ever made; each run does them again."""
    return [Purge(str(tenant), str(user), int(str(before))) for tenant, user, before in store.query(SELECT_PURGES).rows]


def user_ids(store: Store, tenant_id: str, user: str) -> list[str]:
    """Of the users who have that id or sign-in name; of nobody for an empty one."""
    return [str(row[0]) for row in store.query(select_user_ids(tenant_id, user)).rows] if user else []


def note_purge(store: Store, purge: Purge) -> None:
    """Before the data goes: a run that is killed is taken up by the next."""
    store.insert(PURGES, PURGES_COLUMNS, [[purge.tenant_id], [purge.user_id], [purge.before_ms]])


def row_counts(store: Store, steps: Sequence[Step]) -> list[int]:
    """Rows that each step would change."""
    return [sum(int(str(row[0])) for row in store.query(step.count_sql).rows) for step in steps]


def take_out(store: Store, steps: Sequence[Step], on_step: Callable[[Step], None]) -> None:
    """One after the other. StoreAway when the server is still busy after an hour: it goes on by itself."""
    for step in steps:
        on_step(step)
        for update_sql in step.update_sqls(store.query(step.keys_sql).rows if step.whose else ()):
            store.execute(update_sql)
        deadline_s = time.monotonic() + _MUTATION_S_MAX
        while sum(int(str(row[0])) for row in store.query(_OPEN_MUTATIONS).rows):
            if time.monotonic() > deadline_s:
                raise StoreAway(f"{store.name}: a change of {step.table} has been running for an hour; run it again")
            time.sleep(_POLL_S)
