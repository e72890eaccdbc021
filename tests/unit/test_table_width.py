"""Tables fit their terminal: headings are broken before values are."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from pipeline.cli.fitted import fitted

HEADINGS = [("tenant id", False), ("destination country", False), ("minutes charged", True), ("currency", False)]
ROWS = [["calm-joinery", "NL", "12345.678", "USD"], ["amber-bicycles", "FI", "2", "USD"]]


def printed(width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(fitted("Top", HEADINGS, ROWS, console.width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_no_value_is_broken_where_there_is_room_for_all(width: int) -> None:
    """A number in two lines is read as two numbers."""
    lines = printed(width)
    assert max(map(len, lines)) <= width
    assert [line.split() for line in lines[-2:]] == ROWS


def test_a_wide_terminal_breaks_no_heading() -> None:
    assert len(printed(80)) == 1 + 2 + len(ROWS)


def test_where_nothing_fits_every_character_is_still_shown() -> None:
    wanted = Counter("".join(heading for heading, _ in HEADINGS)) + Counter("".join(map("".join, ROWS)))
    del wanted[" "]
    assert Counter("".join(printed(24))) >= wanted


def test_a_name_in_wide_characters_is_not_broken_either() -> None:
    """Each takes two cells of a terminal."""
    row = ["東京電話株式会社", "12"]
    out = io.StringIO()
    console = Console(file=out, width=40)
    console.print(fitted("Top", [("name", False), ("calls", True)], [row], console.width))
    assert out.getvalue().splitlines()[-1].split() == row


def test_a_text_that_must_be_broken_gets_all_the_room_there_is() -> None:
    """A reason of two hundred characters in a column of 24 is eight lines beside an empty half of the terminal."""
    out = io.StringIO()
    rows = [["pstn.cdrs:3:1207", "x" * 200]]
    console = Console(file=out, width=80)
    console.print(fitted("Top", [("reject", False), ("detail", False)], rows, console.width))
    widest = 80 - len("pstn.cdrs:3:1207") - 1
    assert max(line.count("x") for line in out.getvalue().splitlines()) == widest
