"""Invented customers for the simulator: tenants of very unequal size, their users, and the commands that set them up.

Each tenant has a `Story`, so that a short run shows recharges, a balance that runs dry, funds that expire half-way,
a tenant that never paid and two that are billed afterwards. Same plan and dice, same customers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_S, add_months
from pipeline.base.money import MICROS_PER_UNIT
from pipeline.embedded.fiction import LANDLINES, TOLL_FREE, Dice, pick


class Plan(NamedTuple):
    """What to simulate. `from_ms` to `until_ms`: when the switches send; `calls` counts different calls."""

    tenants: int
    calls: int
    from_ms: int
    until_ms: int
    tariff: str
    currency: str
    tariff_per_minute_conferencing: str | None = None
    resent_share: float = 0.01
    late_share: float = 0.01
    broken_share: float = 0.005

    @property
    def run(self) -> str:
        """Eight hexadecimal digits that go into every id: the same dice at another time are other calls."""
        return f"{self.from_ms // MS_PER_S & 0xFFFFFFFF:08x}"


class Story(Enum):
    """How a tenant pays, and what will happen to it."""

    STEADY = "prepaid, recharges by itself in comfortable steps"
    TIGHT = "prepaid, recharges often in small steps"
    BUDGETED = "prepaid, recharges until a monthly budget is used"
    RUNS_DRY = "prepaid, funded once by hand, and again late"
    EXPIRES = "prepaid, the only lot expires in the middle"
    UNFUNDED = "prepaid, never funded"
    POSTPAID = "billed afterwards, a small balance left from before"
    POSTPAID_OFF = "billed afterwards, overage switched off"


class User(NamedTuple):
    user_id: str
    number: str
    licences: tuple[str, ...]


class Customer(NamedTuple):
    """A tenant. `share`: its part of all calls; `masked_digits`: how many digits of outside numbers its law hides."""

    tenant_id: str
    country: str
    story: Story
    share: float
    users: tuple[User, ...]
    organisers: tuple[User, ...]
    attendant: User
    toll_free: str
    masked_digits: int


_LATER_STORIES = (*[Story.STEADY] * 9, *[Story.TIGHT] * 3, *Story)
_COUNTRIES = (*["US"] * 8, *["GB"] * 4, *["DE"] * 3, *["CA"] * 2, *["FR"] * 2, "SE", "NL", "IT", "CH", "PT", "FI", "PR")
_MASKED_DIGITS = {"DE": 3, "FI": 3, "IT": 3, "NL": 3, "SE": 3, "CH": 4, "FR": 4}

# Licences of a tenant's users: what most firms do is to buy one plan for everybody.
_PLANS = (
    *[("MCOPSTN1", "MCOPSTNPP")] * 4,
    *[("MCOPSTN5", "MCOPSTNPP")] * 4,  # 120 minutes each: the pool ends within the month
    *[("MCOPSTN2", "MCOPSTNPP")] * 2,
    ("MCOPSTN_PAYG_1",),
)
_CONFERENCING = (*[("MCOMEETADV",)] * 5, ("MCOMEETACPEA",), ("MCOMEETADV", "MCOMEETADD_DIALOUT_US"), *[()] * 7)
_CALLS_PER_USER = 60
_USERS_MAX = 400


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES = _words(
    "amber brisk calm copper dapper early fair gentle golden harbour hazel ivory jolly keen lively lunar "
    "maple mellow misty noble olive polar quiet rapid russet silver sunny tidal upper velvet wild winter"
)
_TRADES = _words(
    "archive bakery bicycles boats books brewery ceramics choir clinic clocks dairy dance ferries florists "
    "foundry gardens glass joinery kites laundry lenses library mill museum opera orchard paper printers "
    "quarry schools tailors theatre"
)

# Share of a tenant's calls that credits pay for, times what such a call costs: only funding is sized by it.
_COST_PER_CALL_MICROS = 100_000


def customers(plan: Plan, dice: Dice) -> tuple[Customer, ...]:
    """Sizes fall as 1/rank (Zipf); the first eight tenants tell each story once."""
    weights = [1 / rank for rank in range(1, plan.tenants + 1)]
    first_name = dice.randrange(0, len(_ADJECTIVES) * len(_TRADES))
    stories = list(Story)
    made = []
    for index, weight in enumerate(weights):
        share = weight / sum(weights)
        story = stories[index] if index < len(stories) else pick(dice, _LATER_STORIES)
        made.append(_customer(_name(first_name, index), story, share, round(plan.calls * share), dice))
    return tuple(made)


def opening_commands(plan: Plan, customer: Customer, dice: Dice) -> Iterator[dict[str, object]]:
    """What sets a tenant up, in order: account, users, funds, auto-recharge."""
    post_paid = customer.story in {Story.POSTPAID, Story.POSTPAID_OFF}
    yield _command(plan, customer, "open_account", "open") | {
        "country": customer.country,
        "currency": plan.currency,
        "tariff": plan.tariff,
        "tariff_per_minute_conferencing": plan.tariff_per_minute_conferencing,
        "agreement": "postpaid" if post_paid else "prepaid",
        "overage_enabled": customer.story is Story.POSTPAID,
        "dial_out_policy": "DialoutCPCandPSTNInternational",
    }
    for index, user in enumerate((*customer.users, customer.attendant)):
        is_resource = user is customer.attendant
        strict = not is_resource and dice.random() < 0.04
        yield _command(plan, customer, "set_user", f"user-{index}") | {
            "user_id": user.user_id,
            "licences": list(user.licences),
            "dial_out_policy": "DialoutCPCandPSTNDomestic" if strict else None,
            "spend_cap_micros": 5 * MICROS_PER_UNIT if not is_resource and dice.random() < 0.04 else None,
            "display_name": "Reception" if is_resource else f"User {index + 1}",
            "is_resource_account": is_resource,
        }
    yield from _funding(plan, customer)


def later_commands(plan: Plan, customer: Customer) -> Iterator[tuple[int, dict[str, object]]]:
    """What a tenant does while calls go on, with its time."""
    at_ms = plan.from_ms + (plan.until_ms - plan.from_ms) * 6 // 10
    if customer.story is Story.RUNS_DRY:
        yield at_ms, _funds(plan, customer, "funds-2", _cost_micros(plan, customer) // 5, at_ms)
    if customer.story is Story.STEADY and customer.users:
        users = [user.user_id for user in customer.users[:3]]
        change: dict[str, object] = {"user_ids": users, "add": ["MCOPSTNPP"], "remove": []}
        yield at_ms, _command(plan, customer, "assign_licences", "assign") | change


def _funding(plan: Plan, customer: Customer) -> Iterator[dict[str, object]]:
    cost = _cost_micros(plan, customer)
    middle_ms = (plan.from_ms + plan.until_ms) // 2
    match customer.story:
        case Story.STEADY:
            yield _funds(plan, customer, "funds", cost // 2, plan.from_ms)
            yield _auto_recharge(plan, customer, trigger=cost // 4, amount=cost // 2, budget=None)
        case Story.TIGHT:
            yield _funds(plan, customer, "funds", cost // 8, plan.from_ms)
            yield _auto_recharge(plan, customer, trigger=cost // 16, amount=cost // 4, budget=None)
        case Story.BUDGETED:
            yield _funds(plan, customer, "funds", cost // 8, plan.from_ms)
            yield _auto_recharge(plan, customer, trigger=cost // 16, amount=cost // 8, budget=cost // 4)
        case Story.RUNS_DRY:
            yield _funds(plan, customer, "funds", cost // 4, plan.from_ms)
        case Story.EXPIRES:
            yield _funds(plan, customer, "funds", cost, add_months(middle_ms, -12))
        case Story.POSTPAID:
            yield _funds(plan, customer, "funds", cost // 8, plan.from_ms)
        case Story.UNFUNDED | Story.POSTPAID_OFF:
            pass


def _cost_micros(plan: Plan, customer: Customer) -> int:
    """Roughly what the tenant's credits will have to pay, in whole units, at least 8."""
    units = plan.calls * _COST_PER_CALL_MICROS * round(customer.share * 1_000_000) // 1_000_000 // MICROS_PER_UNIT
    return max(8, units) * MICROS_PER_UNIT


def _funds(plan: Plan, customer: Customer, name: str, amount_micros: int, purchased_ms: int) -> dict[str, object]:
    return _command(plan, customer, "add_funds", name) | {
        "amount_micros": amount_micros,
        "currency": plan.currency,
        "purchased_at": purchased_ms,
        "payment_method": "card",
        "reference": f"order {customer.tenant_id}/{name}",
    }


def _auto_recharge(
    plan: Plan, customer: Customer, *, trigger: int, amount: int, budget: int | None
) -> dict[str, object]:
    return _command(plan, customer, "set_auto_recharge", "auto") | {
        "enabled": True,
        "trigger_micros": trigger,
        "amount_micros": amount,
        "monthly_budget_micros": budget,
        "payment_method": "card",
    }


def _command(plan: Plan, customer: Customer, kind: str, name: str) -> dict[str, object]:
    return {
        "command_id": f"{customer.tenant_id}:{plan.run}:{name}",
        "tenant_id": customer.tenant_id,
        "kind": kind,
        "issued_by": "simulator",
    }


def _customer(tenant_id: str, story: Story, share: float, calls: int, dice: Dice) -> Customer:
    country = pick(dice, _COUNTRIES)
    plan = pick(dice, _PLANS)
    count = min(_USERS_MAX, max(3, calls // _CALLS_PER_USER))
    users = tuple(_user(country, plan, dice) for _ in range(count))
    organisers = tuple(user for user in users if any(sku.startswith("MCOMEET") for sku in user.licences))
    return Customer(
        tenant_id=tenant_id,
        country=country,
        story=story,
        share=share,
        users=users,
        organisers=organisers or users[:1],
        attendant=User(_uuid(dice), pick(dice, LANDLINES[country]).number(dice), ("PHONESYSTEM_VIRTUALUSER",)),
        toll_free=pick(dice, TOLL_FREE.get(country, TOLL_FREE["US"])).number(dice),
        masked_digits=_MASKED_DIGITS.get(country, 0),
    )


def _user(country: str, plan: tuple[str, ...], dice: Dice) -> User:
    own = dice.random()
    licences = () if own < 0.02 else plan[:1] if own < 0.06 else plan  # some have nothing, some no credits licence
    return User(_uuid(dice), pick(dice, LANDLINES[country]).number(dice), (*licences, *pick(dice, _CONFERENCING)))


def _name(first: int, index: int) -> str:
    size = len(_ADJECTIVES) * len(_TRADES)
    place = (first + index * 397) % size  # 397 has no factor in common with 32 x 32: no name twice in a round
    name = f"{_ADJECTIVES[place % len(_ADJECTIVES)]}-{_TRADES[place // len(_ADJECTIVES)]}"
    return name if index < size else f"{name}-{index // size + 1}"


def _uuid(dice: Dice) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))
