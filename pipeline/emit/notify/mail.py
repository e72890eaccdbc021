"""A notice -> the mail that a contact gets: text and HTML, in the customer's language. Pure: same notice, same bytes.

Nothing from outside reaches a header unescaped: control characters become blanks and names are cut. A right-to-left
name is isolated, so it cannot turn the amount beside it around.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import NamedTuple

from pipeline.base.calendar import to_datetime
from pipeline.emit.customers import Customer
from pipeline.emit.notify.message import NAME_CHARS_MAX, SENTENCES, TEXT_CHARS_MAX
from pipeline.emit.notify.notice import Notice
from pipeline.emit.notify.wording import Wording, isolated, one_line
from pipeline.emit.outputs import AccountEvent

_DETAILS = {
    "recharge_id": "Recharge",
    "lot_id": "Purchase",
    "pool_id": "Minute pool",
    "reason": "Reason",
    "enterprise_agreement_no": "Agreement",
    "purchase_order_no": "Purchase order",
}
LABELS = ("Account", "User", "Time", "Amount", "Balance", "Event", *_DETAILS.values())
ONCE = "This happened {count} time since {since}."
OFTEN = "This happened {count} times since {since}."
LATEST = "The first and the latest:"
FOOTER = "You get this mail because you are a contact of {account}. It was written by a machine."


class _Told(NamedTuple):
    """What both parts say."""

    subject: str
    sentence: str
    facts: list[tuple[str, str]]
    counted: str | None
    rows: list[str]
    footer: str


def compose_mail(notice: Notice, *, customer: Customer, sender: str, wording: Wording) -> EmailMessage:
    """`sender`: `Name <mailbox@domain>`, which also names the domain of the Message-ID."""
    told = _told(notice, customer, wording)
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = notice.address
    message["Subject"] = told.subject
    message["Date"] = format_datetime(to_datetime(notice.created_at))
    domain = message["From"].addresses[0].domain
    message["Message-ID"] = f"<{notice.notice_id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(told))
    message.add_alternative(_html(told, wording), subtype="html")
    message["Content-Language"] = wording.tag  # before, it would move into the first part
    message.set_boundary(f"=_{notice.notice_id}")  # by itself it would be drawn anew for each attempt
    return message


def _told(notice: Notice, customer: Customer, wording: Wording) -> _Told:
    events = notice.told()
    latest = events[-1]
    name = isolated(one_line(customer.party.name, NAME_CHARS_MAX))
    words = _words(latest, wording)
    subject, sentence = (wording(each) for each in SENTENCES[notice.kind])
    account = (
        name if customer.party.name == notice.tenant_id else f"{name} ({one_line(notice.tenant_id, NAME_CHARS_MAX)})"
    )
    counted = None
    if notice.event_count > 1:
        since = wording.instant(events[0].occurred_at)
        often = wording.texts.ngettext(ONCE, OFTEN, notice.event_count)
        counted = f"{often.format(count=notice.event_count, since=since)} {wording(LATEST)}"
    return _Told(
        subject=f"[{name}] {one_line(subject.format_map(words), TEXT_CHARS_MAX)}",
        sentence=sentence.format_map(words),
        facts=[(wording(label), text) for label, text in _facts(latest, account, words, wording)],
        counted=counted,
        rows=[_row(event, wording) for event in events] if counted else [],
        footer=wording(FOOTER).format(account=account),
    )


def _words(event: AccountEvent, wording: Wording) -> dict[str, str]:
    currency = one_line(event.currency, NAME_CHARS_MAX)
    return {
        "amount": wording.money(event.amount_micros or 0, currency),
        "balance": wording.money(event.balance_micros, currency),
        "user": isolated(one_line(event.user_id or "?", NAME_CHARS_MAX)),
    }


def _facts(event: AccountEvent, account: str, words: dict[str, str], wording: Wording) -> list[tuple[str, str]]:
    facts = [("Account", account)]
    if event.user_id is not None:
        facts.append(("User", words["user"]))
    facts.append(("Time", wording.instant(event.occurred_at)))
    if event.amount_micros is not None:
        facts.append(("Amount", words["amount"]))
    facts.append(("Balance", words["balance"]))
    facts += [(label, _shown(event.details[key])) for key, label in _DETAILS.items() if key in event.details]
    return [*facts, ("Event", _shown(event.event_id))]


def _shown(text: str) -> str:
    return isolated(one_line(text, TEXT_CHARS_MAX))


def _row(event: AccountEvent, wording: Wording) -> str:
    words = _words(event, wording)
    amount = "" if event.amount_micros is None else f"{wording('Amount')} {words['amount']}, "
    user = "" if event.user_id is None else f"{words['user']}, "
    return f"{wording.instant(event.occurred_at)}: {user}{amount}{wording('Balance')} {words['balance']}"


def _text(told: _Told) -> str:
    lines = [told.sentence, "", *(f"{label}: {text}" for label, text in told.facts), ""]
    if told.counted:
        lines += [told.counted, *(f"- {row}" for row in told.rows), ""]
    return "\n".join([*lines, "-- ", told.footer, ""])


def _html(told: _Told, wording: Wording) -> str:
    facts = "".join(
        f'<tr><th align="left">{escape(label)}</th><td><bdi>{escape(text)}</bdi></td></tr>'
        for label, text in told.facts
    )
    rows = "".join(f"<li>{escape(row)}</li>" for row in told.rows)
    listed = f"<p>{escape(told.counted)}</p><ul>{rows}</ul>" if told.counted else ""
    return (
        f'<!doctype html><html lang="{escape(wording.tag)}"><head><meta charset="utf-8">'
        f"<title>{escape(told.subject)}</title></head>"
        f'<body style="font-family:sans-serif"><p>{escape(told.sentence)}</p>'
        f'<table cellpadding="4">{facts}</table>{listed}'
        f'<p style="color:#666">{escape(told.footer)}</p></body></html>\n'
    )
