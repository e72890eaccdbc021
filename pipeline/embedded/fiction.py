"""Telephone numbers that belong to nobody.

From ranges that regulators set aside for films and books (NANP 555-01XX, Ofcom, Bundesnetzagentur, ARCEP, ACMA, PTS)
or, where a country has none, with a subscriber part of zeros that its plan does not give out. Nothing here may ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Dice(Protocol):
    """What the simulator needs of `random.Random`; whoever calls it owns the seed."""

    def random(self) -> float: ...
    def randrange(self, start: int, stop: int) -> int: ...
    def getrandbits(self, k: int, /) -> int: ...
    def randbytes(self, n: int) -> bytes: ...
    def lognormvariate(self, mu: float, sigma: float) -> float: ...


class Block(NamedTuple):
    """`prefix` (digits with country code) and how many digits after it are free."""

    prefix: str
    free_digits: int

    def number(self, dice: Dice) -> str:
        """One number of the block, in E.164 with `+`."""
        if self.free_digits == 0:
            return f"+{self.prefix}"
        return f"+{self.prefix}{dice.randrange(0, 10**self.free_digits):0{self.free_digits}d}"


def _blocks(text: str) -> tuple[Block, ...]:
    """`"121255501xx 61491570006"` -> blocks; each x is a free digit."""
    return tuple(Block(word.rstrip("x"), len(word) - len(word.rstrip("x"))) for word in text.split())


LANDLINES: dict[str, tuple[Block, ...]] = {
    country: _blocks(text)
    for country, text in {
        # reserved for fiction
        "US": "121255501xx 131255501xx 141555501xx 120655501xx 130555501xx 161755501xx",
        "CA": "141655501xx 160455501xx 151455501xx",
        "PR": "178755501xx",
        "GB": "442079460xxx 441134960xxx 441614960xxx 441314960xxx",
        "DE": "493023125xxx 496990009xxx 494066969xxx 492214710xxx 498999998xxx",
        "FR": "3319900xxxx 3326191xxxx 3335301xxxx 3346571xxxx 3353649xxxx",
        "AU": "6125550xxxx 6137010xxxx",
        "SE": "463139006xx 464062804xx 468465004xx",
        # subscriber numbers of zeros
        "NL": "312000000xx",
        "IT": "390600000xxx",
        "CH": "414400000xx",
        "PT": "351210000xxx",
        "PL": "48220000xxx",
        "FI": "35890000xxx",
        "HU": "3610000xxx",
        "RO": "40210000xxx",
        "GR": "302100000xxx",
        "TR": "902120000xxx",
        "MX": "525500000xxx",
        "CN": "861000000xxx",
        "ZA": "27110000xxx",
        "KE": "254200000xxx",
        "CU": "5370000xxx",
    }.items()
}

MOBILES: dict[str, tuple[Block, ...]] = {
    country: _blocks(text)
    for country, text in {
        "GB": "447700900xxx",
        "DE": "4917139200xx",
        "FR": "3363998xxxx",
        "AU": "61491570006 61491570156 61491570157 61491570158 61491570159 61491570110",
        "SE": "4670174061x 4670174062x 4670174067x",
        "CH": "417900000xx",
        "BR": "5511900000xxx",
    }.items()
}

TOLL_FREE: dict[str, tuple[Block, ...]] = {
    country: _blocks(text)
    for country, text in {
        "US": "180055501xx 186655501xx",
        "GB": "448081570xxx",
        "AU": "611800975707 611800975708",
    }.items()
}

PREMIUM: dict[str, tuple[Block, ...]] = {
    "GB": _blocks("448440000xxx 449098790xxx"),  # paid from credits; barred
}

EMERGENCY = {"US": ("911", "933"), "CA": ("911", "933"), "PR": ("911",)}
EMERGENCY_ELSEWHERE = ("112",)


def pick(dice: Dice, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(dice.random() * len(options))]
