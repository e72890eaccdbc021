"""200 kills of the loader and of ClickHouse, then every row counted: `make loader-kills`.

A third kills the loader before 18.16, a third the loader with its embedded engine, a third the server under a loader
that runs on. The moment is chance: any time after the start, or right after an insert. One line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.warehouse.store_io import migrate, open_store
from tests.integration import warehouse_loader_process as log
from tests.integration.test_warehouse_kills import assert_complete, inserted_and_not_committed, started_loader

_DEADLINE_S = 1_800


def kill_loader(url: str, folder: Path, kills: int, record_count: int, chance: random.Random) -> int:
    """Kills it on its way, then lets it finish. Returns rows that were inserted and not committed when it died."""
    twice = 0
    for number in range(kills):
        if number % 2:
            process = started_loader(url, folder, record_count)
            assert process.stdout is not None
            for _ in range(chance.randint(1, 6)):
                process.stdout.readline()
            time.sleep(chance.choice((0.0, chance.uniform(0, 0.1))))
        else:
            process = spawned(url, folder, record_count)
            time.sleep(chance.uniform(0.2, 5))
        process.kill()
        process.communicate()
        if number % 10 == 1:
            twice += inserted_and_not_committed(url, folder)
        say(f"{url.partition(':')[0]}: {number + 1} of {kills} kills of the loader")
    last = started_loader(url, folder, record_count)
    last.communicate(timeout=_DEADLINE_S)
    assert last.returncode == 0, "the last loader did not finish"
    return twice


def spawned(url: str, folder: Path, record_count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integration.warehouse_loader_process", url, str(folder), str(record_count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_server(server: ClickHouseServer, url: str, folder: Path, kills: int, chance: random.Random) -> int:
    """The server dies `kills` times under loaders that wait for it. The records that they loaded."""
    done, record_count = 0, 0
    while done < kills:
        record_count += log.RECORD_COUNT
        process = started_loader(url, folder, record_count)
        while done < kills and process.poll() is None:
            time.sleep(chance.uniform(0.02, 0.4))
            server.kill()
            time.sleep(chance.uniform(0.0, 0.3))
            server.start()
            done += 1
            say(f"server: {done} of {kills} kills of ClickHouse")
        process.communicate(timeout=_DEADLINE_S)
        assert process.returncode == 0, "the loader did not come through"
    return record_count


def check(url: str, record_count: int) -> dict[str, Any]:
    """Every row once; raises AssertionError otherwise."""
    store = open_store(url)
    migrate(store)
    assert_complete(store, record_count)
    counts = {}
    for table in ("rated_calls", "ledger_entries", "rejected_cdrs"):
        [(raw,)] = store.query(f"SELECT count() FROM {table}").rows
        [(final,)] = store.query(f"SELECT count() FROM {table} FINAL").rows
        counts[table] = {"rows": final, "before FINAL": raw}
    store.close()
    return counts


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    third = given.kills // 3
    # A loader lives for some four batches between two kills.
    record_count = max(log.RECORD_COUNT, third * 120)
    results: dict[str, Any] = {}
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pstn-loader-kills-") as name:
        root = Path(name)
        server = ClickHouseServer(root / "server")
        server.start()
        try:
            for kind, url in (("server", server.url("loader")), ("chdb", f"chdb:{root / 'chdb'}")):
                folder = root / f"positions-{kind}"
                folder.mkdir()
                again = kill_loader(url, folder, third, record_count, chance)
                results[f"loader, {kind}"] = {"kills": third, "seen inserted twice": again, **check(url, record_count)}
            folder = root / "positions-killed"
            folder.mkdir()
            url = server.url("killed")
            kills = given.kills - 2 * third
            loaded = kill_server(server, url, folder, kills, chance)
            results["server"] = {"kills": kills, **check(url, loaded)}
        finally:
            server.stop()
    seconds = round(time.monotonic() - started_s)
    print(json.dumps({"kills": given.kills, "missing": 0, "double": 0, "seconds": seconds, "runs": results}))


if __name__ == "__main__":
    main()
