"""What `pstn … --help` teaches: no word is swallowed, every option is explained, every command has an example."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
import typer
from rich.text import Text

from pipeline.__main__ import cli


def commands(command: typer.core.TyperCommand, path: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Every page of help, by what a person types."""
    if isinstance(command, typer.core.TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


PAGES = dict(commands(typer.main.get_command(cli), "pstn"))


@pytest.mark.parametrize("page", PAGES)
def test_no_word_of_a_help_page_is_swallowed(page: str):
    """Rich takes text in square brackets for markup: a default written that way was invisible."""
    command = PAGES[page]
    for text in [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]:
        assert Text.from_markup(text).plain == text, "write show_default=, envvar=, or no square brackets"


@pytest.mark.parametrize("page", PAGES)
def test_every_option_says_what_it_does(page: str):
    """A name alone tells neither the unit nor the meaning."""
    assert [p.name for p in PAGES[page].params if not getattr(p, "help", None)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_shows_an_example_that_its_options_accept(page: str):
    """An example is what most people read; one that does not parse is worse than none."""
    [line] = [line for line in (PAGES[page].help or "").splitlines() if line.startswith("Example: ")]
    example = line.removeprefix("Example: ")
    assert example == page or example.startswith(f"{page} ")
    with PAGES[page].make_context(page, shlex.split(example.removeprefix(page))) as context:
        assert context.params is not None
