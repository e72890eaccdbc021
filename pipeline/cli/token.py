"""`pstn token`: who may use the API, for which tenants, in which role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.base.calendar import format_time
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.terminal import Terminal
from pipeline.office.command_io import issuer
from pipeline.web.tokens import Role, TokenFileError
from pipeline.web.tokens_io import create_token, read_tokens, revoke_token

app = typer.Typer(no_args_is_help=True, help="Tokens of the HTTP API.")
File = Annotated[Path | None, typer.Option("--tokens", help="file of the tokens", envvar="PSTN_TOKENS")]
_NAME_CHARS_MAX = 64


@contextmanager
def _told() -> Iterator[None]:
    with one_line():
        try:
            yield
        except TokenFileError as error:
            raise fail(str(error)) from None


@app.command()
def create(
    name: Annotated[str, typer.Option(help="who uses it; stands in the audit")],
    role: Annotated[
        Literal["viewer", "billing", "operator"],
        typer.Option(help="viewer reads, billing moves money and licences, operator opens accounts"),
    ],
    tenant: Annotated[list[str] | None, typer.Option(help="a tenant that it is for; again for more")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="it is for every tenant")] = False,
    tokens: File = None,
) -> None:
    """Make a token. It is shown once; only its hash is kept.

    Example: pstn token create --name shop --role billing --tenant contoso
    """
    if bool(tenant) == all_tenants:
        raise fail("type --tenant (once or more), or --all-tenants")
    if not 0 < len(name) <= _NAME_CHARS_MAX or not name.isprintable():
        raise fail(f"a name has 1 to {_NAME_CHARS_MAX} printable characters")
    path = load_settings(tokens=tokens).tokens
    with _told():
        tenants = None if all_tenants else frozenset(tenant or ())
        secret = create_token(path, name=name, role=Role[role.upper()], tenants=tenants, created_by=issuer())
    typer.echo(f"kept in {path}, as a hash; this is shown once:", err=True)
    typer.echo(secret)


@app.command("list")
def list_(
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json")] = "table", tokens: File = None
) -> None:
    """Names, roles and tenants of all tokens, revoked ones too.

    Example: pstn token list
    """
    with _told():
        known = read_tokens(load_settings(tokens=tokens).tokens)
    rows = [
        {
            "name": each.name,
            "role": each.role.name.lower(),
            "tenants": "all" if each.tenants is None else " ".join(sorted(each.tenants)),
            "created": format_time(each.created_at),
            "by": each.created_by,
            "revoked": "" if each.revoked_at is None else format_time(each.revoked_at),
        }
        for each in known
    ]
    if format == "json":
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("name", "role", "tenants", "created", "by", "revoked")
    for row in rows:
        table.add_row(*row.values())
    Terminal().print(table)


@app.command()
def revoke(name: Annotated[str, typer.Option(help="of the token")], tokens: File = None) -> None:
    """End a token; a running API obeys within a second.

    Example: pstn token revoke --name shop
    """
    with _told():
        revoke_token(load_settings(tokens=tokens).tokens, name)
    typer.echo(f"token {name} is revoked")
