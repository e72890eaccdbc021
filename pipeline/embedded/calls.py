"""One invented call: its kind in believable shares, who takes part, how long it lasts (log-normal)."""

from __future__ import annotations

import math
import uuid
from bisect import bisect
from itertools import accumulate
from typing import Literal, NamedTuple

from pipeline.base.calendar import MS_PER_S
from pipeline.embedded.customers import Customer, Plan, User
from pipeline.embedded.fiction import (
    EMERGENCY,
    EMERGENCY_ELSEWHERE,
    LANDLINES,
    MOBILES,
    PREMIUM,
    Dice,
    pick,
)


class _CallKind(NamedTuple):
    weight: float
    call_type: str
    who: Literal["user", "organiser", "attendant", "nobody"]
    other: Literal["domestic", "abroad", "anywhere", "premium", "emergency"]
    number_type: str
    duration_s_median: int
    duration_sigma: float


_KINDS = (
    _CallKind(26.0, "user_out", "user", "domestic", "Subscriber", 110, 1.2),
    _CallKind(11.0, "user_out", "user", "abroad", "Subscriber", 170, 1.2),
    _CallKind(0.5, "user_out", "user", "premium", "Subscriber", 90, 0.8),
    _CallKind(0.2, "user_out", "user", "emergency", "Subscriber", 80, 0.8),
    _CallKind(1.5, "user_out_transfer", "user", "domestic", "Subscriber", 140, 1.0),
    _CallKind(2.0, "user_out_forwarding", "user", "domestic", "Subscriber", 120, 1.0),
    _CallKind(0.7, "user_out_conf", "user", "abroad", "Subscriber", 600, 0.8),
    _CallKind(1.5, "fmc_out", "user", "domestic", "Subscriber", 90, 1.2),
    _CallKind(24.0, "user_in", "user", "anywhere", "Subscriber", 120, 1.2),
    _CallKind(1.0, "fmc_in", "user", "anywhere", "Subscriber", 100, 1.2),
    _CallKind(6.0, "conf_in", "organiser", "anywhere", "Service", 1_500, 0.7),
    _CallKind(2.5, "conf_in", "organiser", "anywhere", "TollFree", 1_500, 0.7),
    _CallKind(3.0, "conf_out", "organiser", "domestic", "Service", 1_400, 0.7),
    _CallKind(2.0, "conf_out", "organiser", "abroad", "Service", 1_400, 0.7),
    _CallKind(7.0, "ucap_in", "attendant", "anywhere", "Service", 100, 1.0),
    _CallKind(3.5, "ucap_in", "attendant", "anywhere", "TollFree", 130, 1.0),
    _CallKind(1.2, "ucap_out", "attendant", "domestic", "Service", 120, 1.0),
    _CallKind(0.4, "unassigned_in", "nobody", "anywhere", "Subscriber", 20, 0.5),
    _CallKind(0.3, "emergency_out", "user", "emergency", "Subscriber", 80, 0.8),
    _CallKind(0.1, "emergency_in", "user", "anywhere", "Subscriber", 60, 0.8),
    _CallKind(2.0, "dr_out", "user", "domestic", "Subscriber", 110, 1.2),
    _CallKind(1.5, "dr_in", "user", "anywhere", "Subscriber", 110, 1.2),
    _CallKind(0.5, "ByotOut", "user", "abroad", "Subscriber", 110, 1.2),
)
_KINDS_BOUNDS = tuple(accumulate(kind.weight for kind in _KINDS))

_ABROAD = (*["US"] * 5, *["GB"] * 4, *["DE"] * 3, *["FR"] * 2, *["CA"] * 2, *["MX"] * 2, *[*LANDLINES, "BR"])
_NOT_CONNECTED_SHARE = 0.06
_WITHHELD_SHARE = 0.01
_OTHER_COUNTRY_SHARE = 0.004
_MOBILE_SHARE = 0.18
_DURATION_S_MAX = 4 * 3_600


def call_values(plan: Plan, customer: Customer, ended_ms: int, dice: Dice) -> list[object]:
    """The values of one sound CDR, in the schema's order."""
    kind = _KINDS[bisect(_KINDS_BOUNDS, dice.random() * _KINDS_BOUNDS[-1])]
    user = _who(kind, customer, dice)
    is_inbound = kind.call_type.endswith("_in")
    own = _own_number(kind, customer, user)
    other = _other_number(kind, customer, dice, is_inbound=is_inbound)
    duration_s = 0
    if is_inbound or dice.random() >= _NOT_CONNECTED_SHARE:
        median_log = math.log(kind.duration_s_median)
        duration_s = min(_DURATION_S_MAX, int(dice.lognormvariate(median_log, kind.duration_sigma)))
    return [
        plan.run + _uuid(dice)[8:],
        _uuid(dice),
        _uuid(dice) if kind.who == "organiser" else None,
        customer.tenant_id,
        user.user_id if user is not None else None,
        kind.call_type,
        kind.number_type,
        other if is_inbound else own,
        own if is_inbound else other,
        ended_ms - duration_s * MS_PER_S,
        duration_s,
        "US" if dice.random() < _OTHER_COUNTRY_SHARE else None,  # away from home
        "Microsoft",
        "microsoft",
    ]


def _who(kind: _CallKind, customer: Customer, dice: Dice) -> User | None:
    match kind.who:
        case "organiser":
            return pick(dice, customer.organisers)
        case "attendant":
            return customer.attendant
        case "nobody":
            return None
        case "user":
            # Squared: a few people do most of the calling.
            return customer.users[int(dice.random() ** 2 * len(customer.users))]


def _own_number(kind: _CallKind, customer: Customer, user: User | None) -> str:
    if kind.number_type == "TollFree":
        return customer.toll_free
    return user.number if user is not None else customer.attendant.number


def _other_number(kind: _CallKind, customer: Customer, dice: Dice, *, is_inbound: bool) -> str | None:
    if kind.other == "emergency":
        return pick(dice, EMERGENCY.get(customer.country, EMERGENCY_ELSEWHERE))
    if is_inbound and dice.random() < _WITHHELD_SHARE:
        return None
    if kind.other == "premium":
        number = pick(dice, PREMIUM["GB"]).number(dice)
    else:
        is_abroad = kind.other == "abroad" or (kind.other == "anywhere" and dice.random() < 0.15)
        country = pick(dice, _ABROAD) if is_abroad else customer.country
        is_mobile = country in MOBILES and (country not in LANDLINES or dice.random() < _MOBILE_SHARE)
        number = pick(dice, (MOBILES if is_mobile else LANDLINES)[country]).number(dice)
    if customer.masked_digits:
        number = number[: -customer.masked_digits] + "*" * customer.masked_digits
    return number


def _uuid(dice: Dice) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))
