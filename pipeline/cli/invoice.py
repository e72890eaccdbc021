"""`pstn invoice`: what was billed, as text, PDF and record; correcting it; and whether the numbers have no gap."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

import typer
from rich.progress import track
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.base.money import format_micros
from pipeline.base.settings_io import Settings
from pipeline.base.topics import INVOICES
from pipeline.cli.desk import EXIT_PENDING, EXIT_REJECTED, amount, load_settings
from pipeline.cli.failure import fail, one_line, stderr
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import period as period_of
from pipeline.emit.invoice.font_io import font_of
from pipeline.emit.invoice.invoice import (
    CREDIT_NOTE,
    INVOICE,
    Invoice,
    counter_of,
    credit_note_of,
    decode_invoice,
    encode_invoice,
    gaps_in,
    invoice_json,
)
from pipeline.emit.invoice.open_io import NUMBERING_PARTITION
from pipeline.emit.invoice.paper import amount_of, as_pdf, as_text, missing_characters
from pipeline.emit.journal_read_io import ask_owners, read_journal

app = typer.Typer(no_args_is_help=True, help="Invoices of purchases, and credit notes.")

_WAIT_S = 30.0
Tenant = Annotated[str | None, typer.Option(envvar="PSTN_TENANT", help="one tenant", show_default="all")]
Seller = Annotated[str | None, typer.Option(help="one seller", show_default="all")]
From = Annotated[str | None, typer.Option("--from", help="first day, month or time (UTC)")]
To = Annotated[str | None, typer.Option("--to", help="last day or month, included; or a time, not included")]


@app.command("list")
def list_(
    tenant: Tenant = None,
    seller: Seller = None,
    from_: From = None,
    to: To = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="json: one object a line")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="the last so many, in the table")] = 100,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Invoices and credit notes, in the order of their numbers.

    Example: pstn invoice list --tenant contoso --from 2026-01
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    found = [each for each in _read(settings) if _chosen(tenant, seller, *period_of(from_, to))(each)]
    if format == "json":
        for invoice in found:
            typer.echo(json.dumps(invoice_json(invoice), ensure_ascii=False))
    elif format == "csv":
        names = [name for name in Invoice._fields if name not in ("seller", "customer")]
        writer = csv.DictWriter(sys.stdout, [*names, "customer_name"], lineterminator="\r\n", extrasaction="ignore")
        writer.writeheader()
        for invoice in found:
            row = invoice._asdict() | {"amount_micros": format_micros(invoice.amount_micros)}
            writer.writerow(row | {"issued_at": format_time(invoice.issued_at), "customer_name": invoice.customer.name})
    elif not found:
        typer.echo("no invoices: a worker of the role `invoices` writes one for each purchase")
    else:
        _print(found, limit)


@app.command()
def show(
    number: Annotated[str, typer.Argument(help="such as ACME-US-000017")],
    format: Annotated[Literal["text", "json"], typer.Option(help="json: the record")] = "text",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """One invoice or credit note.

    Example: pstn invoice show pstn-000001
    """
    invoice = _one(_read(load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)), number)
    typer.echo(as_text(invoice) if format == "text" else json.dumps(invoice_json(invoice), ensure_ascii=False))


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="folder; made when it is not there")],
    number: Annotated[list[str] | None, typer.Option(help="only these", show_default="all")] = None,
    tenant: Tenant = None,
    seller: Seller = None,
    from_: From = None,
    to: To = None,
    format: Annotated[Literal["pdf", "text", "json"], typer.Option(help="one file each")] = "pdf",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Write each invoice and credit note into a file of its own, named by its number. Safe to repeat: same bytes.

    Example: pstn invoice export --out invoices --from 2026-01 --to 2026-03
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    every = _read(settings)
    found = [_one(every, each) for each in number] if number else every
    found = [each for each in found if _chosen(tenant, seller, *period_of(from_, to))(each)]
    lacking = ""
    with one_line():
        font = font_of(settings)
        out.mkdir(parents=True, exist_ok=True)
        for invoice in track(found, "writing", console=stderr, transient=True, disable=not stderr.is_terminal):
            path = out / f"{invoice.number}.{'txt' if format == 'text' else format}"
            if format == "pdf":
                lacking = lacking or missing_characters(invoice, font)
                path.write_bytes(as_pdf(invoice, font))
            else:
                written = as_text(invoice) if format == "text" else json.dumps(invoice_json(invoice)) + "\n"
                path.write_text(written, encoding="utf-8")
    typer.echo(f"{len(found)} written into {out}")
    if lacking:
        hint = f"the font {font.name} lacks {lacking[:10]!r}: empty boxes in the PDF; set PSTN_INVOICE_FONT"
        raise fail(f"{hint} to one that has them (Noto Sans CJK, for instance)", EXIT_REJECTED)


@app.command()
def correct(
    number: Annotated[str, typer.Argument(help="the invoice that is wrong")],
    reason: Annotated[str, typer.Option(help="stands on the credit note")],
    amount_text: Annotated[
        str | None, typer.Option("--amount", help="in the invoice's currency", show_default="all that is left of it")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Take an invoice back, whole or in part, by a credit note.

    It moves no credits; `pstn refund` gives back what a call cost.

    Example: pstn invoice correct pstn-000001 --reason "wrong purchase order"
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    every = _read(settings)
    invoice = _one(every, number)
    left_micros = invoice.amount_micros + sum(each.amount_micros for each in every if each.corrects == number)
    wanted_micros = left_micros if amount_text is None else amount(amount_text, "--amount")
    if invoice.kind != INVOICE or not 0 < wanted_micros <= left_micros or not 0 < len(reason) <= 200:
        left = f"{format_micros(left_micros)} {invoice.currency}"
        raise fail(f"{number}: an invoice of which {left} are left; reason of 1 to 200 characters", EXIT_REJECTED)
    if not yes:
        asked = f"Credit {format_micros(wanted_micros)} {invoice.currency} of {number} ({invoice.tenant_id})?"
        typer.confirm(f"{asked} A credit note cannot be taken back", abort=True)
    request_id = uuid4().hex
    note = credit_note_of(invoice, amount_micros=wanted_micros, reason=reason, request_id=request_id)
    request = (NUMBERING_PARTITION, b"credit/" + request_id.encode(), encode_invoice(note))
    with one_line():
        asyncio.run(ask_owners(settings, INVOICES, [request]))
    deadline_s = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline_s:
        for each in _read(settings):
            if each.event_id == request_id and each.kind == CREDIT_NOTE:
                typer.echo(f"{each.number}: {amount_of(each)}, corrects {number}")
                return
        time.sleep(0.5)
    raise fail(
        f"no credit note within {_WAIT_S:.0f} s: is a worker of the role `invoices` running? It will be written when "
        "one is, unless another correction came first: `pstn invoice list`",
        EXIT_PENDING,
    )


@app.command()
def check(bootstrap: Bootstrap = None, prefix: Prefix = None) -> None:
    """Whether each seller's numbers are 1 to the last one without a gap; exit code 1 if not.

    Example: pstn invoice check
    """
    found = _read(load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix))
    wrong = gaps_in([each.number for each in found])
    for seller_id, missing in wrong.items():
        count = sum(each.seller_id == seller_id for each in found)
        typer.echo(f"{seller_id}: {count} numbers, {f'missing {missing[:20]}' if missing else 'no gap'}")
    if any(wrong.values()):
        raise typer.Exit(EXIT_REJECTED)


def _read(settings: Settings) -> list[Invoice]:
    with one_line():
        kept = asyncio.run(read_journal(settings, INVOICES, [NUMBERING_PARTITION]))
    return sorted((decode_invoice(each.value) for each in kept), key=lambda each: counter_of(each.number))


def _one(found: list[Invoice], number: str) -> Invoice:
    for invoice in found:
        if invoice.number == number:
            return invoice
    raise fail(f"no invoice {number}: `pstn invoice list` shows them")


def _chosen(
    tenant: str | None, seller: str | None, from_ms: int | None, to_ms: int | None
) -> Callable[[Invoice], bool]:
    return lambda each: (
        tenant in (None, each.tenant_id)
        and seller in (None, each.seller_id)
        and (from_ms is None or each.issued_at >= from_ms)
        and (to_ms is None or each.issued_at < to_ms)
    )


def _print(found: list[Invoice], limit: int) -> None:
    table = Table("number", "date", "tenant", "customer", "amount", "agreement", "order", "corrects")
    table.columns[4].justify = "right"
    for each in found[-limit:]:
        numbers = (each.enterprise_agreement_no or "", each.purchase_order_no or "", each.corrects or "")
        cells = (each.number, format_time(each.issued_at)[:10], each.tenant_id, each.customer.name, amount_of(each))
        table.add_row(*cells, *numbers)
    Terminal().print(table)
    if len(found) > limit:
        typer.echo(f"the last {limit} of {len(found):,}; --format csv or json has them all", err=True)
