"""Writes what the oracle expects of scenarios into their own folders: `python -m oracle FOLDER... --tables DIR`.

To be read by a person against the contract before it is committed; a run of the tests never writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import FILES, read_lines, run

LEFT_OUT = {"event_id", "entry_id", "rules_version", "detail", "ledger_epoch"}  # open, or the same everywhere


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folders", nargs="+", type=Path)
    arguments.add_argument("--tables", required=True, type=Path)
    chosen = arguments.parse_args()
    for folder in chosen.folders:
        settings = folder / "settings.json"
        outputs = run(
            read_lines(folder / "scenario.jsonl"),
            chosen.tables,
            **(json.loads(settings.read_text()) if settings.exists() else {}),
        )
        for name in FILES:
            kept = [
                {
                    key: value
                    for key, value in sorted(item.items())
                    if key not in LEFT_OUT and (key, value) != ("original", "*")
                }
                for item in outputs[name]
            ]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in kept), encoding="utf-8")


main()
