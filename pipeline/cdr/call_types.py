"""The call types of the PSTN usage report (section 3) and what each means for rating. A closed list."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Direction(StrEnum):
    """Seen from the customer."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Family(StrEnum):
    """Which rules a call type falls under."""

    OWN = "own"
    CONFERENCE = "conference"
    APPLICATION = "application"
    EMERGENCY = "emergency"
    DIRECT_ROUTING = "direct_routing"
    UNASSIGNED = "unassigned"


class CallType(NamedTuple):
    """`looks_up_user`: the user must be known (for the application family only when one is given).

    `checks_numbers`: a number of another form is refused. `allows_short_number`: an own call may go to an emergency
    number of 2 to 6 digits.
    """

    name: str
    direction: Direction
    family: Family
    needs_callee: bool
    looks_up_user: bool
    checks_numbers: bool
    allows_short_number: bool


# Family: its call types, and whether their user is looked up.
_NAMES: Final[dict[Family, tuple[str, bool]]] = {
    Family.OWN: ("user_in user_out user_out_conf user_out_transfer user_out_forwarding fmc_in fmc_out", True),
    Family.CONFERENCE: ("conf_in conf_out", True),
    Family.APPLICATION: ("ucap_in ucap_out ucap_out_conf", True),
    Family.UNASSIGNED: ("unassigned_in", False),
    Family.EMERGENCY: ("emergency_in emergency_out", False),
    Family.DIRECT_ROUTING: (
        "dr_in dr_out dr_out_user_conf dr_out_user_forwarding dr_out_user_transfer dr_emergency_out dr_unassigned_in "
        "dr_in_bot dr_out_bot dr_in_ucap dr_out_ucap "
        "ByotIn ByotOut ByotOutUserConf ByotOutUserForwarding ByotOutUserTransfer ByotOutEmergency",
        False,
    ),
}
_INBOUND_DIRECT_ROUTING: Final = frozenset({"dr_in", "dr_in_bot", "dr_in_ucap", "dr_unassigned_in", "ByotIn"})


def _call_type(name: str, family: Family, looks_up_user: bool) -> CallType:
    is_inbound = name in _INBOUND_DIRECT_ROUTING or (family is not Family.DIRECT_ROUTING and name.endswith("_in"))
    checks_numbers = family not in {Family.EMERGENCY, Family.DIRECT_ROUTING}
    return CallType(
        name=name,
        direction=Direction.INBOUND if is_inbound else Direction.OUTBOUND,
        family=family,
        needs_callee=checks_numbers and not is_inbound,
        looks_up_user=looks_up_user,
        checks_numbers=checks_numbers,
        allows_short_number=family is Family.OWN and not is_inbound,
    )


CALL_TYPES: dict[str, CallType] = {
    name: _call_type(name, family, looks_up_user)
    for family, (names, looks_up_user) in _NAMES.items()
    for name in names.split()
}
