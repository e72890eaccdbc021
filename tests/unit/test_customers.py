"""The customers file: what is wrong in it is said in one line, and a wrong change does not take effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.emit import customers_io
from pipeline.emit.customers import Contact, Customer, CustomersWrong, Party
from pipeline.emit.customers_io import CustomersFile, load_customers

WHOLE = """
[seller.ACME-US]
name = "Acme Telephony Inc."
address = ["1 Main Street", "Springfield"]
tax_no = "US 1"

[tenant.contoso]
name = "Contoso GmbH"
address = ["Hauptstraße 1", "Berlin"]
language = "zh-Hant"
seller = "ACME-US"
agreements = ["EA-1", "EA-2"]
card_customer = "cus_1"
contacts = [
  { role = "billing", mail = "ap@contoso.example" },
  { role = "admin", webhook = "https://contoso.example/hook", secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" },
]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "customers.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path):
    """Everything that may be written."""
    customers = load_customers(written(tmp_path, WHOLE))
    assert customers.seller_of("contoso") == customers.seller_of("nobody") == "ACME-US"
    assert customers.customer("contoso") == Customer(
        Party("Contoso GmbH", ("Hauptstraße 1", "Berlin")), "zh-Hant", "ACME-US", ("EA-1", "EA-2"), "cus_1",
        (
            Contact("billing", "ap@contoso.example"),
            Contact("admin", None, "https://contoso.example/hook", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"),
        ),
    )  # fmt: skip
    assert customers.customer("nobody") == Customer(Party("nobody"))
    assert load_customers(None).customer("x").contacts == ()


def test_the_example_file_is_whole():
    """Who copies it must not begin with an error."""
    customers = load_customers(Path(__file__).resolve().parents[2] / "deploy" / "customers.example.toml")
    assert [len(customer.contacts) for customer in customers.tenants.values()] == [2, 1, 1]


WRONG = [
    ("[", "customers.toml: "),
    ("x = 1", "x: unknown; here may stand seller, tenant"),
    ("tenant = 1", "tenant: needs a table"),
    ("[tenant.a]\nlangauge = 'ru'", "tenant.a.langauge: unknown"),
    ("[tenant.a]\nlanguage = 'Klingon!'", "no language tag"),
    ("[tenant.a]\nseller = 'x'", r"no \[seller.x\]"),
    ("[tenant.a]\nname = ''", "tenant.a.name: needs a text of 1 to 200"),
    ("[tenant.a]\nagreements = 'EA'", "tenant.a.agreements: needs a list"),
    ("[seller.'a/b']", "letters, digits and hyphens"),
    ("[tenant.a]\ncontacts = 1", "needs a list of tables"),
    ("[tenant.a]\ncontacts = [{role = 'boss', mail = 'a@b'}]", r"contacts\[0\].role: 'boss' is none of billing, admin"),
    ("[tenant.a]\ncontacts = [{role = 'admin'}]", "needs either mail or webhook"),
    ("[tenant.a]\ncontacts = [{role = 'admin', mail = 'a@b', secret = 'x'}]", "belongs to a webhook"),
    ("[tenant.a]\ncontacts = [{role = 'admin', webhook = 'http://b.example/'}]", "no https address"),
    ("[tenant.a]\ncontacts = [{role = 'admin', webhook = 'https://[b'}]", "no https address"),
    ("[tenant.a]\ncontacts = [{role = 'admin', webhook = 'https://b.example'}]", "needs whsec_"),
]


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_what_is_wrong_is_said_with_its_place(text, line, tmp_path):
    """A slip of the pen in a settings file is found at start, not by a customer who hears nothing."""
    with pytest.raises(CustomersWrong, match=line):
        load_customers(written(tmp_path, text))


@pytest.mark.parametrize(
    "mail",
    [
        "", "a", "a@", "@b", "a@b\\r\\nBcc: x@y", "a b@c", "a@b c", "<a@b>", "a@b,c@d", "a..b@c", "é@b", "a@-b",
        "a" * 250 + "@b.c",
    ],
)  # fmt: skip
def test_an_address_that_could_break_a_header_is_no_address(mail, tmp_path):
    """Nothing but plain letters reaches an envelope."""
    with pytest.raises(CustomersWrong, match=r"mail|either"):
        load_customers(written(tmp_path, f'[tenant.a]\ncontacts = [{{role = "admin", mail = "{mail}"}}]'))


def test_a_change_takes_effect_and_a_wrong_one_does_not(tmp_path, monkeypatch):
    """A new contact needs no restart; a typing error takes nobody's contacts away."""
    monkeypatch.setattr(customers_io, "_LOOK_S", 0.0)
    path = written(tmp_path, WHOLE)
    file = CustomersFile(path)
    written(tmp_path, WHOLE.replace("zh-Hant", "ru"))
    assert file.current().customer("contoso").language == "ru"
    written(tmp_path, "[")
    assert file.current().customer("contoso").language == "ru"
    path.unlink()
    assert file.current().customer("contoso").language == "ru"
