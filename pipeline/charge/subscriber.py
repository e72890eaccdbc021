"""Who pays: what his licences allow, and the terms of his tenant, worked out once and not for each call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pipeline.charge.policy import POLICIES
from pipeline.charge.tables import Licence, Tables

_PLAN_KINDS = ("calling_international", "calling_domestic", "calling_payg")


class Terms(NamedTuple):
    """What `open_account` sets; late calls are rated by the terms at `now`."""

    country: str
    currency: str
    tariff: str
    tariff_per_minute_conferencing: str | None
    agreement: str
    overage_enabled: bool
    dial_out_policy: str


class Entitlement(NamedTuple):
    """What a set of licences allows. A bundle counts as what it `holds`."""

    plan: Licence | None = None
    """Of several plans one applies: international, then domestic, then PAYG; in a kind the first in the table."""
    conferencing: tuple[Licence, ...] = ()
    per_minute: Licence | None = None
    extended_dial_out: Licence | None = None
    has_credits: bool = False
    has_payg: bool = False
    seats: tuple[str, ...] = ()
    """SKUs in whose pools the holder counts: every plan that he holds, whichever applies to his calls (R31), and each
    conferencing licence (R32)."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscriber:
    """The payer of a call as rating sees him. Payers that are alike are one object, so answers can be remembered."""

    terms: Terms
    country: str
    """The user's, else the tenant's (R20)."""
    entitlement: Entitlement
    from_meetings: str
    own_calls: str
    is_resource_account: bool


@lru_cache(maxsize=4_096)
def entitlement_of(licences: tuple[str, ...], tables: Tables) -> Entitlement:
    """What these SKUs allow together; a SKU that the tables do not know allows nothing."""
    held: dict[str, Licence] = {}
    waiting = list(licences)
    while waiting:
        licence = tables.licences.get(waiting.pop())
        if licence is not None and licence.sku not in held:
            held[licence.sku] = licence
            waiting += licence.holds
    ranked = sorted(held.values(), key=lambda licence: licence.rank)
    of_kind = {kind: [licence for licence in ranked if licence.kind == kind] for kind in {each.kind for each in ranked}}
    plans = [licence for kind in _PLAN_KINDS for licence in of_kind.get(kind, ())]
    return Entitlement(
        plan=plans[0] if plans else None,
        conferencing=tuple(of_kind.get("conferencing", ())),
        per_minute=next(iter(of_kind.get("conferencing_per_minute", ())), None),
        extended_dial_out=next(iter(of_kind.get("extended_dial_out", ())), None),
        has_credits="credits" in of_kind,
        has_payg="calling_payg" in of_kind,
        seats=tuple(licence.sku for licence in (*plans, *of_kind.get("conferencing", ()))),
    )


@lru_cache(maxsize=65_536)
def subscriber_of(
    terms: Terms,
    licences: tuple[str, ...],
    country: str | None,
    dial_out_policy: str | None,
    is_resource_account: bool,
    tables: Tables,
) -> Subscriber:
    """The payer with these licences under these terms; what the user leaves open (None) is the tenant's."""
    policy = POLICIES[dial_out_policy or terms.dial_out_policy]
    return Subscriber(
        terms=terms,
        country=country or terms.country,
        entitlement=entitlement_of(licences, tables),
        from_meetings=policy.from_meetings,
        own_calls=policy.own_calls,
        is_resource_account=is_resource_account,
    )
