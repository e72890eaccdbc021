"""`pstn explain`: how a rated call came to its charge, step by step, recomputed on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from pipeline.base.calendar import format_time
from pipeline.base.plain import plain
from pipeline.base.rules import Rules
from pipeline.charge.explain import explain as explain_call
from pipeline.charge.explanation import Difference, Explanation
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import TableError
from pipeline.cli.explain_io import CallError, calls_of_file, calls_of_warehouse, compare_with_replay, replayed
from pipeline.cli.failure import EXIT_WRONG, fail, load_settings
from pipeline.cli.rating_options import Rating, with_rating
from pipeline.cli.terminal import Terminal
from pipeline.cli.warehouse_options import WarehouseOption, opened
from pipeline.emit.outputs import RatedCall, to_json
from pipeline.offline_io import ScenarioError

EXIT_DIFFERENT = 1
_WIDTH = 140  # of what is not a terminal


@with_rating
def explain(
    *,
    usage_id: Annotated[
        str | None, typer.Argument(help="id of the call", show_default="every call of the file")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="rated_calls.jsonl of pstn rate; - is standard input", show_default="standard input"),
    ] = None,
    warehouse: WarehouseOption = None,
    tenant: Annotated[
        str | None, typer.Option(help="whose call; without --file it is looked up in the warehouse")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="scenario that led to the call: it is run again and compared byte for byte")
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="json: one object a line")] = "text",
    rating: Rating,
) -> None:
    """Say how a rated call came to its charge, and compute it again.

    Exit code 0: the same to the micro-unit. 1: it differs. 2: tables or settings of its version are not at hand, or
    there is no such call.

    Example: pstn explain --tenant contoso CALL-17
    """
    try:
        loaded = rating.load_tables()
        again = replayed(rating.offline(loaded), history) if history is not None else None
        outcomes = []
        for call in _calls(usage_id, file, warehouse, tenant):
            explanation = _explained(call, loaded, rating.rules)
            if again is not None:
                found = compare_with_replay(call, again)
                explanation = explanation._replace(differences=[*explanation.differences, *found])
            _show(call, explanation, format, is_replayed=again is not None)
            outcomes.append(_exit_code(explanation))
    except (CallError, ScenarioError, TableError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or ''}: {error.strerror}") from None
    if not outcomes:
        whose = "" if tenant is None else f" of tenant {tenant}"
        raise fail(f"no rated call {usage_id or ''}{whose} there")
    if any(outcomes):
        raise typer.Exit(EXIT_DIFFERENT if EXIT_DIFFERENT in outcomes else EXIT_WRONG)


def _calls(usage_id: str | None, file: Path | None, url: str | None, tenant: str | None) -> Iterator[RatedCall]:
    if file is None and (url is not None or tenant is not None):
        if tenant is None or usage_id is None:
            raise fail("a call in the warehouse is found by --tenant T and its USAGE_ID")
        with opened(load_settings(warehouse=url).warehouse) as store:
            yield from list(calls_of_warehouse(store, tenant, usage_id))
        return
    if file is None and sys.stdin.isatty():
        raise fail(
            "which call? --file rated_calls.jsonl USAGE_ID, or --tenant T USAGE_ID, or its JSON on standard input"
        )
    yield from calls_of_file(file or Path("-"), usage_id, tenant)


def _explained(call: RatedCall, tables: Tables, rules: Rules) -> Explanation:
    try:
        return explain_call(call, tables, rules)
    except (ValueError, OverflowError) as error:
        raise CallError(str(error)) from None


def _exit_code(explanation: Explanation) -> int:
    if explanation.differences:
        return EXIT_DIFFERENT
    return EXIT_WRONG if explanation.missing else 0


def _show(call: RatedCall, explanation: Explanation, format: str, *, is_replayed: bool) -> None:
    if format == "json":
        typer.echo(json.dumps(as_json(call, explanation, is_replayed=is_replayed), ensure_ascii=False))
        return
    console = Terminal()
    if not console.is_terminal:
        console = Terminal(width=_WIDTH)
    began = format_time(call.start_time)
    who = f"tenant {call.tenant_id}" + (f", user {call.user_id}" if call.user_id else "")
    heading = (
        f"Call {call.usage_id} of {who}: {call.call_type} to {call.callee_number or '-'}, {began}, {call.duration_s} s"
    )
    console.print(Text(plain(heading), style="bold"))
    table = Table.grid(padding=(0, 2))
    for name in ("step", "says", "rules"):
        table.add_column(name, no_wrap=name == "step", overflow="fold")
    for step in explanation.steps:
        says = Text(plain(step.says))
        if step.table is not None:
            says.append(f"\n{plain(step.table)}", style="dim")
        table.add_row(Text(step.title, style="cyan"), says, Text(step.rules, style="dim"))
    console.print(table)
    for unknown in explanation.not_known:
        console.print(Text(plain(f"not in the record: {unknown}"), style="dim"))
    for missing in explanation.missing:
        console.print(Text(plain(f"not at hand: {missing}"), style="yellow"))
    for difference in explanation.differences:
        console.print(Text(plain(f"differs: {_said(difference)}"), style="bold red"))
    console.print(_verdict(explanation, is_replayed=is_replayed))


def _said(difference: Difference) -> str:
    field, recorded, recomputed, rules = difference
    return f"{field} is {recorded!r} in the record, recomputed {recomputed!r} ({rules})"


def _verdict(explanation: Explanation, *, is_replayed: bool) -> Text:
    if explanation.differences:
        return Text(f"recomputed: {len(explanation.differences)} differences", style="bold red")
    if explanation.missing:
        return Text("recomputed in part: what else it needs is not at hand, see above", style="yellow")
    how = "replayed byte for byte the same" if is_replayed else "the same to the micro-unit"
    return Text(f"recomputed: {how}", style="green")


def as_json(call: RatedCall, explanation: Explanation, *, is_replayed: bool) -> dict[str, object]:
    """One object for programs."""
    return {
        "usage_id": explanation.usage_id,
        "tenant_id": explanation.tenant_id,
        "agrees": not explanation.differences and not explanation.missing,
        "replayed": is_replayed,
        "steps": [step._asdict() for step in explanation.steps],
        "differences": [difference._asdict() for difference in explanation.differences],
        "not_at_hand": explanation.missing,
        "not_in_the_record": explanation.not_known,
        "rated_call": to_json(call),
    }
