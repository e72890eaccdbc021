"""Dial-out policies (R57-R59): a fixed set of twelve, each a part for meetings and a part for a user's own calls."""

from __future__ import annotations

from typing import Final, NamedTuple

ANY, DOMESTIC, ZONE_A, NONE = "any", "domestic", "zone A", "none"


class DialOutPolicy(NamedTuple):
    """How far calls may go from meetings and otherwise; emergency calls are never asked about."""

    from_meetings: str
    own_calls: str


POLICIES: Final = {
    "DialoutCPCandPSTNInternational": DialOutPolicy(ANY, ANY),
    "DialoutCPCDomesticPSTNInternational": DialOutPolicy(DOMESTIC, ANY),
    "DialoutCPCDisabledPSTNInternational": DialOutPolicy(NONE, ANY),
    "DialoutCPCInternationalPSTNDomestic": DialOutPolicy(ANY, DOMESTIC),
    "DialoutCPCInternationalPSTNDisabled": DialOutPolicy(ANY, NONE),
    "DialoutCPCandPSTNDomestic": DialOutPolicy(DOMESTIC, DOMESTIC),
    "DialoutCPCDomesticPSTNDisabled": DialOutPolicy(DOMESTIC, NONE),
    "DialoutCPCDisabledPSTNDomestic": DialOutPolicy(NONE, DOMESTIC),
    "DialoutCPCandPSTNDisabled": DialOutPolicy(NONE, NONE),
    "DialoutCPCZoneAPSTNInternational": DialOutPolicy(ZONE_A, ANY),
    "DialoutCPCZoneAPSTNDomestic": DialOutPolicy(ZONE_A, DOMESTIC),
    "DialoutCPCZoneAPSTNDisabled": DialOutPolicy(ZONE_A, NONE),
}
DEFAULT_POLICY: Final = "DialoutCPCandPSTNInternational"


def allows(part: str, *, destination_country: str | None, usage_country: str, zone: str) -> bool:
    """Whether a part of a policy lets a call through; `zone` is the destination's. US and CA are abroad here (R58)."""
    if part == ANY:
        return True
    if part == DOMESTIC:
        return destination_country == usage_country
    return part == ZONE_A and zone == "A"
