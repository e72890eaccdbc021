"""A customer's language: which texts, and how amounts and instants are written. Pure; English when in doubt."""

from __future__ import annotations

import unicodedata
from gettext import NullTranslations
from typing import NamedTuple

from babel import Locale, UnknownLocaleError
from babel.dates import UTC, format_datetime
from babel.numbers import format_currency

from pipeline.base.calendar import to_datetime
from pipeline.base.money import to_decimal

LANGUAGES = ("en", "ru", "zh_Hans", "zh_Hant")
_TRADITIONAL_TERRITORIES = frozenset({"TW", "HK", "MO"})
_ISOLATE, _POP = "\u2068", "\u2069"


class Wording(NamedTuple):
    """Texts and formats of one customer."""

    locale: Locale
    texts: NullTranslations

    @property
    def tag(self) -> str:
        """As in `Content-Language`."""
        return str(self.locale).replace("_", "-")

    def __call__(self, english: str) -> str:
        return self.texts.gettext(english)

    def money(self, micros: int, currency: str) -> str:
        """Exact: no digit of a micro-unit is rounded away."""
        return format_currency(to_decimal(micros), currency, locale=self.locale, decimal_quantization=False)

    def instant(self, instant_ms: int) -> str:
        return format_datetime(to_datetime(instant_ms), "long", tzinfo=UTC, locale=self.locale)


def locale_of(tag: str) -> Locale:
    """`ru-KZ` -> Russian as in Kazakhstan; `zh` and its scripts by script or place; anything else -> English."""
    try:
        locale = Locale.parse(tag.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")
    if locale.language == "zh" and locale.script not in ("Hans", "Hant"):
        return Locale("zh", script="Hant" if locale.territory in _TRADITIONAL_TERRITORIES else "Hans")
    return locale if locale.language in ("en", "ru", "zh") else Locale("en")


def catalogue_of(locale: Locale) -> str:
    """One of LANGUAGES."""
    return f"zh_{locale.script}" if locale.language == "zh" else locale.language


def one_line(text: str, chars_max: int) -> str:
    """The text without control and format characters and line separators, cut to a length."""
    plain = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char for char in text[:chars_max]
    )
    return plain + ("…" if len(text) > chars_max else "")


def isolated(text: str) -> str:
    """A right-to-left name so that it cannot turn the words around it; any other as it is."""
    is_turning = any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in text)
    return f"{_ISOLATE}{text}{_POP}" if is_turning else text
