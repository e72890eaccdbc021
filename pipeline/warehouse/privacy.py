"""Personal data in the warehouse: how long numbers and names stay, and the statements that take them out. Pure.

What goes: telephone numbers, call and conference ids, sign-in and display names, originals and details of rejects.
What stays: money, minutes, destinations, the ids of users. A number that was taken out is a single star.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY
from pipeline.warehouse.store import ColumnType, literal

# By the user's country (the organisation's when he has none), domain page section 2.
RETENTION_DAYS = {
    "CA": 150,
    "NO": 150,
    "NL": 180,
    "SE": 180,
    "CH": 365,
    "DK": 365,
    "FI": 365,
    "FR": 365,
    "GB": 450,
    "MX": 720,
    "IT": 730,
}
RETENTION_DAYS_OTHERS = 365

PURGES = "purges"
PURGES_COLUMNS = (ColumnType("tenant_id", "String"), ColumnType("user_id", "String"), ColumnType("before_ms", "Int64"))
SELECT_PURGES = f"SELECT tenant_id, user_id, before_ms FROM {PURGES} FINAL ORDER BY tenant_id, user_id"

_GONE = "*"
_UPDATES = {
    "rated_calls": f"caller_number = '{_GONE}', callee_number = '{_GONE}', call_id = '', conference_id = ''",
    "rejected_cdrs": "original = '', detail = 'purged'",
    "users": "upn = '', display_name = ''",
}
# Rows that still hold something: a second run finds none.
_HOLDS = {
    "rated_calls": f"(caller_number NOT IN ('', '{_GONE}') OR callee_number NOT IN ('', '{_GONE}')"
    " OR call_id != '' OR conference_id != '')",
    "rejected_cdrs": "(original != '' OR detail != 'purged')",
    "users": "(upn != '' OR display_name != '')",
}
# A statement may have 256 KiB: two ids of 64 characters take up to 512 bytes, and 10 around them.
_NAMED_MAX = 400

# Users with a country of their own.
_SETTLED = "SELECT tenant_id, user_id FROM users FINAL WHERE country != ''"
_HOMES = "SELECT tenant_id, argMax(country, month) AS home FROM accounts GROUP BY tenant_id"


class Purge(NamedTuple):
    """Whose data from before an instant is to go; `user_id` empty: the whole organisation's."""

    tenant_id: str
    user_id: str
    before_ms: int


class Step(NamedTuple):
    """Rows of one table that lose their personal data, and why.

    `whose` asks for more than a mutation can: a subquery in one never ends on ClickHouse 18.16 ("There is no query").
    The rows' `keys` are then looked up first, and named in the mutation one by one.
    """

    table: str
    why: str
    condition: str
    whose: str = ""
    keys: tuple[str, ...] = ()

    @property
    def keys_sql(self) -> str:
        """Whose rows would change."""
        return f"SELECT DISTINCT {', '.join(self.keys)} FROM {self.table} FINAL WHERE {self._all}"

    @property
    def count_sql(self) -> str:
        return f"SELECT count() FROM {self.table} FINAL WHERE {self._all}"

    @property
    def _all(self) -> str:
        return f"{self.condition} AND {self.whose}" if self.whose else self.condition

    def update_sqls(self, found: Iterable[Sequence[object]]) -> list[str]:
        """Mutations, given what `keys_sql` found. They change no column of the sorting key, and no money."""
        update = f"ALTER TABLE {self.table} UPDATE {_UPDATES[self.table]} WHERE {self.condition}"
        if not self.whose:
            return [update]
        rows = [f"({', '.join(literal(str(each)) for each in row)})" for row in found]
        named = [", ".join(rows[at : at + _NAMED_MAX]) for at in range(0, len(rows), _NAMED_MAX)]
        return [f"{update} AND ({', '.join(self.keys)}) IN ({some})" for some in named]


def select_user_ids(tenant_id: str, user: str) -> str:
    """`user`: an id, also one that only calls have, or a sign-in name."""
    tenant, named = f"tenant_id = {literal(tenant_id)}", literal(user)
    return (
        "SELECT DISTINCT user_id FROM ("
        f"SELECT user_id FROM users FINAL WHERE {tenant} AND (user_id = {named} OR upn = {named})"
        f" UNION ALL SELECT user_id FROM rated_calls WHERE {tenant} AND user_id = {named} LIMIT 1"
        ") AS known ORDER BY user_id"
    )


def purge_steps(purge: Purge) -> list[Step]:
    """What one wish takes out. The original of a reject is bytes: it is a user's when it holds his id."""
    who = f"tenant_id = {literal(purge.tenant_id)}"
    why = f"purge of {purge.tenant_id}"
    calls, rejects, people = (f"{_HOLDS[table]} AND {who}" for table in ("rated_calls", "rejected_cdrs", "users"))
    if purge.user_id:
        user = literal(purge.user_id)
        why += f", user {purge.user_id}"
        calls += f" AND user_id = {user}"
        rejects += f" AND position(original, {user}) > 0"
        people += f" AND user_id = {user}"
    return [
        Step("rated_calls", why, f"{calls} AND start_time_ms < {purge.before_ms}"),
        Step("rejected_cdrs", why, f"{rejects} AND received_at_ms < {purge.before_ms}"),
        Step("users", why, people),
    ]


def retention_steps(now_ms: int) -> list[Step]:
    """What is older than its country allows. A user's name goes with the last of his calls that may be shown.

    A call was rated by its user's country, unless it came with one of its own: then the user, as he is now, tells his.
    """
    by_days: dict[int, list[str]] = {}
    for country, days in RETENTION_DAYS.items():
        by_days.setdefault(days, []).append(country)
    by_days.setdefault(RETENTION_DAYS_OTHERS, [])
    steps = []
    for days, countries in sorted(by_days.items()):
        before_ms = now_ms - days * MS_PER_DAY
        is_rest = days == RETENTION_DAYS_OTHERS
        named = [country for country in RETENTION_DAYS if RETENTION_DAYS[country] != days] if is_rest else countries
        within = f"{'NOT ' if is_rest else ''}IN"
        of_country = f"{within} ({_texts(named)})"
        which = f"tenant_id {within} (SELECT tenant_id FROM ({_HOMES}) WHERE home IN ({_texts(named)}))"
        whose = (
            f"((tenant_id, user_id) IN ({_SETTLED} AND country {of_country})"
            f" OR (tenant_id, user_id) NOT IN ({_SETTLED}) AND {which})"
        )
        why = f"older than {days} days" + (" (all other countries)" if is_rest else f" ({', '.join(countries)})")
        old_calls = f"{_HOLDS['rated_calls']} AND start_time_ms < {before_ms}"
        steps += [
            Step("rated_calls", why, f"{old_calls} AND usage_country = '' AND rating_country {of_country}"),
            Step(
                "rated_calls",
                f"{why}, rated by another country than the user's",
                f"{old_calls} AND usage_country != ''",
                whose=whose,
                keys=("tenant_id", "user_id"),
            ),
            Step(
                "rejected_cdrs",
                why,
                f"{_HOLDS['rejected_cdrs']} AND received_at_ms < {before_ms}",
                whose=which,
                keys=("tenant_id",),
            ),
        ]
    shown = f"SELECT tenant_id, user_id FROM rated_calls WHERE caller_number != '{_GONE}'"
    ever = "SELECT tenant_id, user_id FROM rated_calls"
    quiet = f"(tenant_id, user_id) IN ({ever}) AND (tenant_id, user_id) NOT IN ({shown})"
    silent = "no call left that may be shown"
    steps.append(Step("users", silent, _HOLDS["users"], whose=quiet, keys=("tenant_id", "user_id")))
    return steps


def _texts(values: Sequence[str]) -> str:
    return ", ".join(map(literal, values))
