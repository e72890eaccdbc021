"""Reads the translations: gettext catalogues as text (`locale/<language>.po`), compiled when they are first used."""

from __future__ import annotations

import io
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from pipeline.emit.notify.wording import Wording, catalogue_of, locale_of

FOLDER = Path(__file__).parent / "locale"


@lru_cache(maxsize=16)
def catalogue(language: str) -> NullTranslations:
    """One of LANGUAGES; English is the texts themselves."""
    if language == "en":
        return NullTranslations()
    with (FOLDER / f"{language}.po").open("rb") as file:
        compiled = io.BytesIO()
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


@lru_cache(maxsize=1_000)
def wording_of(language: str) -> Wording:
    """What a customer with this language tag reads."""
    locale = locale_of(language)
    return Wording(locale, catalogue(catalogue_of(locale)))
