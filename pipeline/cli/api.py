"""`pstn api`: the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.logging_io import configure_logging
from pipeline.cli.ending import end_at_once
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.cli.warehouse_options import WarehouseOption


def api(
    host: Annotated[str | None, typer.Option(help="address to listen on", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on", show_default="8080")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; without it plain HTTP is spoken")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key")] = None,
    tokens: Annotated[Path | None, typer.Option(help="file of `pstn token`", show_default="tokens.json")] = None,
    tables: Annotated[Path | None, typer.Option(help="folder of the rating tables", show_default="shipped")] = None,
    warehouse: WarehouseOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Serve accounts, funds, licences, users, statements and `authorize` over HTTP until SIGTERM.

    /docs is for people, /openapi.json for programs. First a token: `pstn token create`.

    Example: pstn api --port 8443 --tls-certificate server.pem --tls-key server.key
    """
    settings = load_settings(
        bootstrap_servers=bootstrap,
        topic_prefix=prefix,
        api_host=host,
        api_port=port,
        api_tls_certificate=tls_certificate,
        api_tls_key=tls_key,
        tokens=tokens,
        tables=tables,
        warehouse=warehouse,
    )
    if (settings.api_tls_certificate is None) != (settings.api_tls_key is None):
        raise fail("a certificate and its key go together: --tls-certificate and --tls-key")
    import uvloop

    from pipeline.web.api_io import serve

    end_at_once()
    configure_logging(settings)
    with one_line():
        uvloop.run(serve(settings))
