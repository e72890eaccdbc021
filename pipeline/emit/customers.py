"""What the operator writes about sellers and customers: who is billed, in which language, and who hears of what.

The file is TOML: `[seller.ID]` and `[tenant.ID]`. A tenant that is not in it has its id for a name, English, and no
contacts. Nothing here decides what a call costs. Unknown names and wrong values are refused with their path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

ROLES = ("billing", "admin")
"""Billing hears of money, admins of what works and what does not."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TEXT_CHARS_MAX = 200
_LINES_MAX = 8
# Plain ASCII dot-atoms (RFC 5322) and a host name: nothing that a header or an SMTP command could break on.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_MAIL = re.compile(
    rf"(?=.{{3,254}}\Z){_ATOM}(?:\.{_ATOM})*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.?)+", re.A
)
_SELLER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,15}", re.A)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}", re.A)
_Row = TypeVar("_Row")


class CustomersWrong(ValueError):
    """The file cannot be used; the message names the place and what is wrong."""


class Contact(NamedTuple):
    """One address for a role: a mailbox, or a webhook with its signing secret (`whsec_…`)."""

    role: str
    mail: str | None = None
    webhook: str | None = None
    secret: str | None = None

    @property
    def address(self) -> str:
        return self.mail or self.webhook or ""


class Party(NamedTuple):
    """A name and an address as they stand on an invoice."""

    name: str
    address: tuple[str, ...] = ()
    tax_no: str | None = None


class Customer(NamedTuple):
    """One tenant. `agreements`: the enterprise agreement numbers that may be chosen (R56); `card_customer`: who the
    card processor knows it as."""

    party: Party
    language: str = "en"
    seller: str | None = None
    agreements: tuple[str, ...] = ()
    card_customer: str | None = None
    contacts: tuple[Contact, ...] = ()


DEFAULT_SELLER = "pstn"


class Customers(NamedTuple):
    """The whole file. Sellers keep its order: the first bills whoever names none."""

    sellers: Mapping[str, Party]
    tenants: Mapping[str, Customer]

    def customer(self, tenant_id: str) -> Customer:
        return self.tenants.get(tenant_id) or Customer(Party(tenant_id))

    def seller_of(self, tenant_id: str) -> str:
        return self.customer(tenant_id).seller or next(iter(self.sellers))


NOBODY = Customers({DEFAULT_SELLER: Party("Communications Credits")}, {})


def parse_customers(content: Mapping[str, object]) -> Customers:
    """The file's tables as values. Raises CustomersWrong at the first thing that is wrong."""
    _only(content, ("seller", "tenant"), "")
    sellers = {}
    for seller_id, row in _table(content.get("seller", {}), "seller").items():
        where = f"seller.{seller_id}"
        if not _SELLER_ID.fullmatch(seller_id):
            raise CustomersWrong(
                f"{where}: a seller's id is 1 to 16 letters, digits and hyphens (it begins its numbers)"
            )
        fields = _table(row, where)
        _only(fields, ("name", "address", "tax_no"), where)
        sellers[seller_id] = _party(fields, where, seller_id)
    tenants = {}
    for tenant_id, row in _table(content.get("tenant", {}), "tenant").items():
        where = f"tenant.{tenant_id}"
        tenants[tenant_id] = customer = _customer(_table(row, where), where, tenant_id)
        if customer.seller is not None and customer.seller not in sellers:
            raise CustomersWrong(f"{where}.seller: no [seller.{customer.seller}] in the file")
    return Customers(sellers or NOBODY.sellers, tenants)


def _customer(fields: Mapping[str, object], where: str, tenant_id: str) -> Customer:
    known = ("name", "address", "tax_no", "language", "seller", "agreements", "card_customer", "contacts")
    _only(fields, known, where)
    language = _text(fields, "language", where) or "en"
    if not _LANGUAGE.fullmatch(language):
        raise CustomersWrong(f"{where}.language: {language!r} is no language tag such as ru or zh-Hant")
    contacts = fields.get("contacts", [])
    if not isinstance(contacts, list):
        raise CustomersWrong(f"{where}.contacts: needs a list of tables such as {{role = 'billing', mail = '…'}}")
    return Customer(
        party=_party(fields, where, tenant_id),
        language=language,
        seller=_text(fields, "seller", where),
        agreements=_texts(fields, "agreements", where),
        card_customer=_text(fields, "card_customer", where),
        contacts=tuple(_contact(row, f"{where}.contacts[{index}]") for index, row in enumerate(contacts)),
    )


def _contact(row: object, where: str) -> Contact:
    fields = _table(row, where)
    _only(fields, Contact._fields, where)
    role, mail, webhook, secret = (_text(fields, name, where) for name in Contact._fields)
    if role not in ROLES:
        raise CustomersWrong(f"{where}.role: {role!r} is none of {', '.join(ROLES)}")
    if (mail is None) == (webhook is None):
        raise CustomersWrong(f"{where}: needs either mail or webhook")
    if mail is not None and not _MAIL.fullmatch(mail):
        raise CustomersWrong(f"{where}.mail: {mail!r} is no address of plain letters such as ap@contoso.example")
    if webhook is not None:
        _check_webhook(webhook, secret, where)
    elif secret is not None:
        raise CustomersWrong(f"{where}.secret: belongs to a webhook")
    return Contact(role, mail, webhook, secret)


def _check_webhook(webhook: str, secret: str | None, where: str) -> None:
    try:
        url = urlsplit(webhook)
        host = url.hostname
    except ValueError:
        url, host = urlsplit(""), None
    if not host or not (url.scheme == "https" or (url.scheme == "http" and host in _LOOPBACK)):
        raise CustomersWrong(f"{where}.webhook: {webhook!r} is no https address")
    if secret is None or not re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}", secret, re.A):
        raise CustomersWrong(f"{where}.secret: needs whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)")


def _party(fields: Mapping[str, object], where: str, otherwise: str) -> Party:
    return Party(
        _text(fields, "name", where) or otherwise, _texts(fields, "address", where), _text(fields, "tax_no", where)
    )


def _only(fields: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for name in fields:
        if name not in known:
            raise CustomersWrong(f"{where}{'.' if where else ''}{name}: unknown; here may stand {', '.join(known)}")


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise CustomersWrong(f"{where}: needs a table")
    return value


def _text(fields: Mapping[str, object], name: str, where: str) -> str | None:
    value = fields.get(name)
    return None if value is None else _checked_text(value, f"{where}.{name}")


def _texts(fields: Mapping[str, object], name: str, where: str) -> tuple[str, ...]:
    values = fields.get(name, [])
    if not isinstance(values, list) or len(values) > _LINES_MAX:
        raise CustomersWrong(f"{where}.{name}: needs a list of at most {_LINES_MAX} texts")
    return tuple(_checked_text(value, f"{where}.{name}") for value in values)


def _checked_text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _TEXT_CHARS_MAX:
        raise CustomersWrong(f"{where}: needs a text of 1 to {_TEXT_CHARS_MAX} characters")
    return value
