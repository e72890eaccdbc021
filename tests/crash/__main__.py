"""`python -m tests.crash`: every fault alone, then many by dice; or the sabotaged workers. See `make crash-test`."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode

from .faults import FAULTS
from .judge import COUNTS as BOOKS
from .options import Options
from .run import Outcome, run
from .sabotage import NAMES, SABOTAGES
from .transcript import Transcript

EXIT_WRONG = 1
EXIT_UNNOTICED = 3


def main(
    seed: Annotated[int, typer.Option(help="of calls and faults")] = 1,
    calls: Annotated[int, typer.Option(min=100, help="sent during the faults by dice")] = 40_000,
    alone_calls: Annotated[int, typer.Option(min=100, help="sent during each fault alone")] = 1_500,
    workers: Annotated[int, typer.Option(min=1, max=12, help="ledger workers")] = 2,
    faults: Annotated[int, typer.Option(min=0, help="by dice")] = 60,
    kinds: Annotated[str, typer.Option(help=f"with commas, of {', '.join(FAULTS)} [default: all]")] = "",
    alone: Annotated[bool, typer.Option(help="first bring each kind about alone")] = True,
    partitions: Annotated[int, typer.Option(min=1, max=48)] = 6,
    warehouse: Annotated[Literal["server", "chdb"], typer.Option(help="ClickHouse server, or chDB")] = "server",
    broker_stop_s: Annotated[float, typer.Option(help="how long `broker_stopped` lasts")] = 60.0,
    lots: Annotated[int, typer.Option(help="that `large_account` adds")] = 500,
    sabotage: Annotated[bool, typer.Option("--sabotage", help="only with workers broken on purpose")] = False,
    check: Annotated[bool, typer.Option(help="at the end, see that each sabotage is noticed")] = True,
    folder: Annotated[Path | None, typer.Option(help="kept: transcript, logs, data [default: a temporary one]")] = None,
) -> None:
    """Exit code 0: everything exact. 1: something is wrong, or every sabotage was noticed. 3: one was not noticed."""
    chosen = tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
    unknown = [kind for kind in chosen if kind not in FAULTS]
    if unknown:
        typer.echo(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}", err=True)
        raise typer.Exit(2)
    if not chosen:
        chosen = tuple(kind for kind in FAULTS if warehouse == "server" or kind != "clickhouse_killed")
    options = Options(
        seed=seed,
        calls=calls,
        workers=workers,
        faults=faults,
        kinds=chosen,
        partitions=partitions,
        warehouse=warehouse,
        broker_stop_s=broker_stop_s,
        lots=lots,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process of the run is left behind
    with tempfile.TemporaryDirectory(prefix="pstn-crash-") as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        transcript = Transcript(place / "transcript.txt", sys.stdout)
        transcript.say("starting Apache Kafka and the warehouse")
        with KafkaNode() as node:
            clickhouse = ClickHouseServer(place / "clickhouse") if warehouse == "server" else None
            if clickhouse is not None:
                clickhouse.start()
            try:
                deployments = Deployments(options, node, clickhouse, place, transcript)
                if sabotage:
                    code = deployments.sabotaged()
                else:
                    code = deployments.honest(alone=alone, alone_calls=alone_calls, check=check)
            finally:
                if clickhouse is not None:
                    clickhouse.stop()
                transcript.close()
    raise typer.Exit(code)


class Deployments:
    """Runs on the same servers, each with topics, books and a database of its own."""

    def __init__(
        self, options: Options, node: KafkaNode, clickhouse: ClickHouseServer | None, folder: Path,
        transcript: Transcript,
    ) -> None:  # fmt: skip
        self._options = options
        self._node = node
        self._clickhouse = clickhouse
        self._folder = folder
        self._transcript = transcript
        self._number = 0

    def one(self, options: Options, what: str) -> Outcome:
        self._number += 1
        self._transcript.say(f"--- {what}, seed {options.seed}")
        name = f"crash{self._number}"
        return run(
            options,
            node=self._node,
            clickhouse=self._clickhouse,
            prefix=f"{name}.",
            folder=self._folder / name,
            transcript=self._transcript,
        )

    def honest(self, *, alone: bool, alone_calls: int, check: bool) -> int:
        total = Outcome()
        if alone:
            for index, kind in enumerate(self._options.kinds):
                lonely = replace(
                    self._options, kinds=(kind,), faults=1, calls=alone_calls, seed=self._options.seed + index
                )
                total.add(self.one(lonely, f"{kind} alone"))
        if self._options.faults:
            total.add(self.one(self._options, f"{self._options.faults} faults by dice"))
        if check:
            total.counts["sabotages_unnoticed"] = sum(not noticed for noticed in self._noticed().values())
        print(json.dumps(total.as_dict()), flush=True)
        return 0 if total.is_exact else EXIT_WRONG

    def sabotaged(self) -> int:
        """The harness is shown failing: exit code 1 is what it gives for each of these workers."""
        noticed = self._noticed()
        print(json.dumps({"sabotage": {name: "noticed" if n else "not noticed" for name, n in noticed.items()}}))
        return EXIT_WRONG if all(noticed.values()) else EXIT_UNNOTICED

    def _noticed(self) -> dict[str, bool]:
        noticed = {}
        for name, make in NAMES.items():
            kinds = SABOTAGES[make]
            options = replace(
                self._options, sabotage=name, kinds=kinds, faults=len(kinds), calls=300 * (len(kinds) + 1), settle_s=30
            )
            outcome = self.one(options, f"sabotage: the worker {name.replace('_', ' ')}")
            noticed[name] = any(outcome.counts[count] for count in BOOKS)
            self._transcript.say(f"{name}: {'noticed' if noticed[name] else 'NOT NOTICED'}")
        return noticed


if __name__ == "__main__":
    typer.run(main)
