"""Users and the counters that size the pools (D4): kept up to date here, so that no call has to count users."""

from __future__ import annotations

from pipeline.charge.subscriber import entitlement_of
from pipeline.charge.tables import Tables
from pipeline.debit.account import Seats, User, UserSettings
from pipeline.debit.turn import Turn


def set_settings(turn: Turn, user_id: str, settings: UserSettings, tables: Tables) -> None:
    """`set_user`: adds or replaces a user; what he spent and drew stays his."""
    user = turn.books.user(turn.account.tenant_id, user_id)
    if user is None:
        user = User(turn.account.tenant_id, user_id, settings)
        turn.books.add_user(user)
    take_seats(turn, user, settings, tables)


def take_seats(turn: Turn, user: User, settings: UserSettings, tables: Tables) -> None:
    """Replaces a user's settings and moves him to the pools of his licences and country."""
    user = turn.books.own_user(user)
    _leave(turn, user)
    user.settings = settings
    user.subscriber = None
    user.removed_at = None
    user.seats = entitlement_of(settings.licences, tables).seats
    _count(turn, user, +1)


def withdraw(turn: Turn, user: User) -> None:
    """`remove_user`: he counts no more; his record stays for calls that started before."""
    user = turn.books.own_user(user)
    _leave(turn, user)
    user.removed_at = turn.now_ms


def _leave(turn: Turn, user: User) -> None:
    _count(turn, user, -1)
    user.seats = ()


def _count(turn: Turn, user: User, by: int) -> None:
    if not user.seats:
        return
    account = turn.write()
    country = user.settings.country or ""
    counts = {seats[:2]: seats.user_count for seats in account.seats}
    for sku in user.seats:
        counts[sku, country] = counts.get((sku, country), 0) + by
    account.seats = tuple(Seats(*names, count) for names, count in counts.items() if count)
