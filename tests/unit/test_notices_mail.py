"""The mail itself: in the customer's language and format, and no name of anybody can break it."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage

import pytest
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emit.customers import Customer, Party
from pipeline.emit.notify.mail import FOOTER, LABELS, LATEST, ONCE, compose_mail
from pipeline.emit.notify.message import KINDS, SENTENCES
from pipeline.emit.notify.notice import MAIL, joined, new_notice
from pipeline.emit.notify.texts_io import FOLDER, wording_of
from pipeline.emit.notify.wording import LANGUAGES, catalogue_of, locale_of
from pipeline.emit.outputs import AccountEvent
from tests.avro_values import sample_of

SAMPLE = AccountEvent(**sample_of("account_event"))
SENDER = "Communications Credits <credits@pstn.example>"
ARABIC, HEBREW = "شركة الاتصالات", "חברת טלפון"
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Language", "MIME-Version", "Content-Type",
}  # fmt: skip


def written(
    *, language: str = "en", name: str = "contoso", kind: str = "recharge_succeeded", count: int = 1, **changes: object
) -> bytes:
    event = SAMPLE._replace(kind=kind, amount_micros=1_234_560_000, balance_micros=-1_500, **changes)
    notice = new_notice(event, MAIL, "ap@contoso.example", hour=0, now_ms=SAMPLE.occurred_at)
    for _ in range(count - 1):
        notice = joined(notice, event)
    customer = Customer(Party(name), language)
    return compose_mail(notice, customer=customer, sender=SENDER, wording=wording_of(language)).as_bytes()


def read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


def parts(content: bytes) -> tuple[str, str]:
    message = read(content)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return str(text.get_content()), str(html.get_content())


@pytest.mark.parametrize(
    ("tag", "locale", "catalogue"),
    [
        ("en", "en", "en"), ("en-GB", "en_GB", "en"), ("ru", "ru", "ru"), ("ru-KZ", "ru_KZ", "ru"),
        ("zh", "zh_Hans", "zh_Hans"), ("zh-CN", "zh_Hans_CN", "zh_Hans"), ("zh-Hans", "zh_Hans", "zh_Hans"),
        ("zh-TW", "zh_Hant_TW", "zh_Hant"), ("zh_HK", "zh_Hant_HK", "zh_Hant"), ("zh-Hant", "zh_Hant", "zh_Hant"),
        ("de", "en", "en"), ("xx", "en", "en"), ("klingon", "en", "en"), ("zh-Latn", "zh_Hans", "zh_Hans"),
    ],
)  # fmt: skip
def test_a_language_is_one_of_four_and_english_when_in_doubt(tag, locale, catalogue):
    """Nobody gets an empty mail, and Hong Kong reads traditional characters."""
    found = locale_of(tag)
    assert catalogue_of(found) == catalogue
    assert str(found) == locale


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_every_text_is_translated_with_its_own_words_filled_in(language):
    """A missing line would be English in the middle of Chinese; a missing {balance} would be a sum not told."""
    with (FOLDER / f"{language}.po").open("rb") as file:
        found = {message.id: message.string for message in read_po(file, locale=language) if message.id}
    single = {key: value for key, value in found.items() if isinstance(key, str)}
    wanted = {text for pair in SENTENCES.values() for text in pair} | {*LABELS, LATEST, FOOTER}
    assert single.keys() == wanted
    for english, text in single.items():
        assert text
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english)), english
    (forms,) = [value for key, value in found.items() if not isinstance(key, str)]
    assert all(set(re.findall(r"\{\w+\}", form)) == {"{count}", "{since}"} for form in forms)
    assert next(key for key in found if not isinstance(key, str))[0] == ONCE


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_notice_is_a_whole_mail_in_every_language(kind, language):
    """Text and HTML say the same, and a mail program finds no fault."""
    content = written(kind=kind, language=language, user_id="anna", count=3)
    message = read(content)
    assert set(message.keys()) == HEADERS
    assert message.defects == []
    assert message["Content-Language"] == language.replace("_", "-")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    text, html = parts(content)
    for part in (text, html):
        assert "contoso" in part
        assert "anna" in part
        assert not re.search(r"\{\w+\}", part)


def test_amounts_and_dates_are_written_as_the_customer_writes_them():
    """1.234,56 and 1,234.56 differ by a factor of a thousand to who reads the wrong one; nothing is rounded."""
    shown = {language: parts(written(language=language))[0].replace("\xa0", " ").replace("\u202f", " ")
             for language in ("en", "en-GB", "ru", "zh-CN", "zh-TW")}  # fmt: skip
    assert "$1,234.56" in shown["en"]
    assert "-$0.0015" in shown["en"]
    assert "March 2, 2026" in shown["en"]
    assert "US$1,234.56" in shown["en-GB"]
    assert "2 March 2026" in shown["en-GB"]
    assert "1 234,56 $" in shown["ru"]
    assert "2 марта 2026" in shown["ru"]
    assert "US$1,234.56" in shown["zh-CN"]
    assert "2026年3月2日" in shown["zh-CN"]
    assert "儲值" in shown["zh-TW"]
    assert "充值" in shown["zh-CN"]


def test_russian_counts_as_russian_does():
    """1 раз, 2 раза, 5 раз."""
    counted = {count: parts(written(language="ru", count=count))[0] for count in (2, 5, 21)}
    assert "2 раза" in counted[2]
    assert "5 раз " in counted[5]
    assert "21 раз " in counted[21]


def test_the_same_notice_is_the_same_mail():
    """Sent twice after a crash, it is recognised: same Message-ID, same bytes."""
    assert written(count=2) == written(count=2)
    assert read(written())["Message-ID"] != read(written(event_id="other"))["Message-ID"]
    assert re.fullmatch(r"<[0-9a-f]{32}@pstn\.example>", read(written())["Message-ID"])


EVIL = [
    "x\r\nBcc: victim@example.com", "x\nX-Evil: 1", "x\r\n\r\n<html>", "x\x00y", "x\u2028Bcc: a@b", "x\x85y",
    "a" * 5_000, ARABIC, HEBREW + " Ltd.", "\u202egnp.exe", "</title><script>alert(1)</script>", "=?utf-8?q?Bcc?=",
    "{amount.__class__}", "🏳️‍🌈" * 40, "株式会社" * 50, '"><img src=x onerror=alert(1)>', "",
]  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_of_a_customer_user_or_detail_writes_a_header(evil):
    """Names come from customers. A line break in one must not address a mail, and HTML must not run."""
    details = dict.fromkeys(("recharge_id", "reason", "purchase_order_no"), evil) | {evil: evil}
    for content in (
        written(name=evil or "x", tenant_id=evil, user_id=evil, details=details, event_id=evil),
        written(name=evil or "x", currency=evil[:3], kind="spend_cap_reached", user_id=evil, count=2),
    ):
        message = read(content)
        assert set(message.keys()) == HEADERS
        assert message["To"].addresses[0].addr_spec == "ap@contoso.example"
        assert len(message["To"].addresses) == len(message["From"].addresses) == 1
        assert "\u202e" not in str(message["Subject"])
        assert len(str(message["Subject"])) < 1_200
        html = parts(content)[1]
        assert "<script" not in html
        assert "<img" not in html


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(sorted(KINDS)), st.sampled_from(LANGUAGES))
def test_any_text_as_a_name_leaves_the_headers_as_they_are(name, kind, language):
    """Unicode holds more line breaks and marks than a list of evil names does."""
    name = name.encode("utf-8", "replace").decode()
    message = read(written(name=name or "x", tenant_id=name, user_id=name, kind=kind, language=language))
    assert set(message.keys()) == HEADERS
    assert len(message["To"].addresses) == 1


def test_a_right_to_left_name_cannot_turn_the_words_around_it():
    """Isolated, the amount after an Arabic name is read as it was written."""
    text, html = parts(written(name=ARABIC))
    assert f"\u2068{ARABIC}\u2069" in text
    assert f"\u2068{ARABIC}\u2069" in html
    assert "\u2068" not in parts(written(name="Contoso GmbH"))[0]
