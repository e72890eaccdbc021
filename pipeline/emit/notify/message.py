"""An account event -> the mail that tells a person. Pure: the same event gives the same bytes.

Nothing from an event reaches a header unescaped: control characters become blanks, long names are cut, addresses are
made of plain letters only. The addresses end in `.invalid` (RFC 2606): nothing can be delivered by mistake.
"""

from __future__ import annotations

import re
import unicodedata
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import blake2b

from pipeline.base.calendar import format_time, to_datetime
from pipeline.base.money import format_micros
from pipeline.emit.outputs import AccountEvent

SENDER = "Communications Credits <credits@pstn.invalid>"
TEXT_CHARS_MAX = 1_000
NAME_CHARS_MAX = 64
_ID_DIGEST_BYTES = 16

# kind: the subject, and what it means to the reader. {amount}, {balance} and {user} are filled in.
SENTENCES: dict[str, tuple[str, str]] = {
    "recharge_succeeded": (
        "Recharged by {amount}",
        "Your automatic recharge of {amount} was paid. The balance is now {balance}.",
    ),
    "recharge_failed": (
        "Recharge of {amount} failed",
        "Your automatic recharge of {amount} was not paid. It will be tried again later; please check the payment "
        "data. The balance is {balance}.",
    ),
    "recharge_budget_reached": (
        "Recharge budget of the month reached",
        "Your balance is below the trigger, but another recharge of {amount} would pass the budget that you set for "
        "this month. Nothing was charged. The balance is {balance}: raise the budget or add funds by hand.",
    ),
    "balance_zero": (
        "No credits left",
        "Your Communications Credits are used up: the balance is {balance}. Add funds to keep calls going that are "
        "not included in a plan.",
    ),
    "service_suspended": (
        "Paid calls are suspended",
        "Calls that need Communications Credits are no longer put through: the balance is {balance}. Calls included "
        "in a plan, inbound calls and emergency calls go on. Add funds to restore the service.",
    ),
    "service_restored": (
        "Paid calls work again",
        "Calls that need Communications Credits are put through again. The balance is {balance}.",
    ),
    "pool_at_80": (
        "80 % of a minute pool used",
        "Four fifths of the minutes that your plan includes for the month are used.",
    ),
    "pool_exhausted": (
        "A minute pool is used up",
        "All minutes that your plan includes for the month are used. Further calls are paid from Communications "
        "Credits; the balance is {balance}.",
    ),
    "lot_expiring": (
        "{amount} of your credits expire soon",
        "Credits last twelve months from their purchase. {amount} of an older purchase are left and will expire "
        "within 30 days.",
    ),
    "lot_expires_soon": (
        "{amount} of your credits expire within a week",
        "{amount} of a purchase made almost twelve months ago are still left and will expire within 7 days. The "
        "balance is {balance}.",
    ),
    "lot_expired": (
        "{amount} of your credits have expired",
        "{amount} of a purchase made twelve months ago were not used and have expired. The balance is {balance}.",
    ),
    "spend_cap_reached": (
        "A user has reached the monthly spend cap",
        "The user {user} has reached the spend cap of the month. Further paid calls of this user are not put through "
        "until the next month, or until the cap is raised.",
    ),
    "switched_to_postpaid": (
        "Calls are now billed afterwards",
        "Your prepaid credits are used up and your agreement allows more: further calls are billed afterwards. The "
        "balance is {balance}.",
    ),
}
KINDS = frozenset(SENTENCES)


def compose(event: AccountEvent) -> EmailMessage:
    """The notice of an event. KeyError for a kind that no person needs to hear of."""
    subject, sentence = SENTENCES[event.kind]
    currency = one_line(event.currency, NAME_CHARS_MAX)
    words = {
        "amount": f"{format_micros(event.amount_micros or 0)} {currency}",
        "balance": f"{format_micros(event.balance_micros)} {currency}",
        "user": one_line(event.user_id or "?", NAME_CHARS_MAX),
    }
    message = EmailMessage(policy=SMTP)
    message["From"] = SENDER
    message["To"] = address_of(event.tenant_id)
    message["Subject"] = f"[{one_line(event.tenant_id, NAME_CHARS_MAX)}] {subject.format_map(words)}"
    message["Date"] = format_datetime(to_datetime(event.occurred_at))
    message["Message-ID"] = f"<{digest_of(event.event_id)}@notices.pstn.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    facts = {
        "Account": event.tenant_id,
        "User": event.user_id,
        "Time": format_time(event.occurred_at),
        "Amount": words["amount"] if event.amount_micros is not None else None,
        "Balance": words["balance"],
        **{_title(name): text for name, text in sorted(event.details.items())},
        "Event": event.event_id,
    }
    lines = [f"{name}: {one_line(text, TEXT_CHARS_MAX)}" for name, text in facts.items() if text is not None]
    message.set_content("\n".join([sentence.format_map(words), "", *lines, ""]))
    return message


def digest_of(event_id: str) -> str:
    """32 hex digits that stand for the event wherever its id itself cannot."""
    return blake2b(event_id.encode(), digest_size=_ID_DIGEST_BYTES).hexdigest()


def address_of(tenant_id: str) -> str:
    """The tenant's mailbox; an id that cannot stand in an address becomes a digest."""
    local = (
        tenant_id
        if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?", tenant_id)
        else digest_of(tenant_id)
    )
    return f"{local}@tenants.pstn.invalid"


def one_line(text: str, chars_max: int) -> str:
    """The text without control and format characters and line separators, cut to a length."""
    plain = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text[:chars_max]
    )
    return plain + ("…" if len(text) > chars_max else "")


def _title(name: str) -> str:
    return one_line(name, NAME_CHARS_MAX).replace("_", " ").capitalize()
