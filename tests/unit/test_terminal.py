"""Texts from outside on a terminal: shown as they are, and never obeyed."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from pipeline.base.plain import plain
from pipeline.cli import failure
from pipeline.cli.failure import fail
from pipeline.cli.report_table import print_chart, print_rows
from pipeline.cli.terminal import Terminal
from pipeline.ops.status import Followed, Status
from pipeline.ops.status_view import status_view
from pipeline.warehouse.chart import Bar
from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Rows

RED_AND_A_TITLE = "\x1b[31mred\x1b]0;owned\x07"
SHOWN_AS_TEXT = r"\x1b[31mred\x1b]0;owned\x07"

TEXTS = [
    ("\\[/x]", "\\[/x]"),
    ("\\\\[/x]\\", "\\\\[/x]\\"),
    ("[bold]", "[bold]"),
    (":smile: pstn.cdrs:100:5", ":smile: pstn.cdrs:100:5"),
    (RED_AND_A_TITLE, SHOWN_AS_TEXT),
    ("two\nlines\tand\x7f\x9b1m", r"two\nlines\tand\x7f\x9b1m"),
    ("abc\u202edef\u2028\udcff", r"abc\u202edef\u2028\udcff"),
    ("Ana Müller 東京 ❤️", "Ana Müller 東京 ❤️"),
]


def terminal() -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    return Terminal(file=out, width=200, force_terminal=True), out


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_a_text_is_shown_as_it_is(text: str, shown: str) -> None:
    """In a line, a title, a heading and a cell."""
    console, out = terminal()
    table = Table(text, title=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert out.getvalue().count(shown) == 4
    assert plain(shown) == shown


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_a_message_is_one_line_whatever_it_holds(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console, out = terminal()
    monkeypatch.setattr(failure, "stderr", console)
    assert fail(f"{text}: it is wrong").exit_code == 2
    assert out.getvalue().endswith(f" {shown}: it is wrong\n")
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_a_report_shows_a_name_as_it_is(text: str, shown: str) -> None:
    """A user chose it."""
    report = REPORTS["spend-by-user"]
    row = tuple(text if column.kind == "text" else None for column in report.columns)
    console, out = terminal()
    print_rows(Rows(tuple(column.name for column in report.columns), iter([row])), report, console, rows_max=1)
    assert shown in out.getvalue()


def test_bars_stay_below_each_other_beside_names_of_controls_and_brackets() -> None:
    console, out = terminal()
    bars = [Bar("a\nb [/x]", "USD", 2), Bar("c", "USD", 1)]  # type: ignore[arg-type]
    print_chart(bars, REPORTS["top-destinations"], console)
    first, second = (Text.from_ansi(line).plain for line in out.getvalue().splitlines()[-2:])
    assert first.startswith(r"a\nb [/x]")
    assert len(first) == len(second)


def test_the_status_obeys_no_name_of_a_worker() -> None:
    console, out = terminal()
    console.print(status_view(Status(0, RED_AND_A_TITLE, 1, "pstn.", (), (), {}, Followed(), (RED_AND_A_TITLE,))))
    assert out.getvalue().count(SHOWN_AS_TEXT) == 2
    assert "\x07" not in out.getvalue()
