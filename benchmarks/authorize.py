"""`POST /v1/authorize` under a constant load: how long an answer takes.

    python benchmarks/authorize.py [--seconds 20] [--rate 1000] [--connections 5]

One `pstn api` process on the sandbox's broker, plain HTTP, connections kept open; the load is `hey`'s (a public tool,
`apt-get install hey`): each of its workers sends at a constant rate and waits for its answer. Its workers' clocks tick
together, so with c connections c requests come at one instant and the last of them waits for the others. Latencies are
hey's own of every single request. CPU is that of the API's process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

PSTN = (sys.executable, "-m", "pipeline")
PORT = 18_471
WARM_UP_S = 3
ASK = {
    "tenant_id": "bench",
    "user_id": "ada",
    "call_type": "user_out",
    "caller_number": "+12065550100",
    "callee_number": "+493012345678",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1_000, help="requests a second, all connections together")
    parser.add_argument("--connections", type=int, default=5, help="hey's workers send together")
    options = parser.parse_args()
    if shutil.which("hey") is None:
        sys.exit("hey is missing: type `apt-get install hey`")
    with tempfile.TemporaryDirectory(prefix="pstn-bench-") as name:
        print(json.dumps(measure(Path(name), options)))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(start(("sandbox", "--folder", str(folder)), dict(os.environ), folder))
        wait_for((folder / "env").exists)
        env = os.environ | dict(re.findall(r"export (\w+)='(.*)'", (folder / "env").read_text()))
        env |= {"PSTN_TENANT": "bench", "PSTN_TOKENS": str(folder / "tokens.json")}
        run(env, "account", "open", "--country", "US", "--tariff", "acs_proxy_usd", "--yes")
        run(env, "user", "set", "--user", "ada", "--licences", "MCOPSTN2,MCOPSTNPP", "--spend-cap", "500")
        run(env, "fund", "add", "--amount", "100", "--yes")
        token = run(env, "token", "create", "--name", "bench", "--role", "viewer", "--tenant", "bench").strip()
        api = start(("api", "--port", str(PORT)), env, folder)
        started.append(api)
        wait_for(lambda: is_up(f"http://127.0.0.1:{PORT}/healthz"))
        load(token, options, WARM_UP_S)
        process = psutil.Process(api.pid)
        before = process.cpu_times()
        latencies_ms, statuses = load(token, options, options.seconds)
        after = process.cpu_times()
    finally:
        for each in reversed(started):
            each.send_signal(signal.SIGINT)
            each.wait(30)
    cpu_s = after.user + after.system - before.user - before.system
    count = len(latencies_ms)

    def at(share: float) -> float:
        return round(latencies_ms[min(count - 1, int(count * share))], 2)

    return {
        "benchmark": "authorize",
        "requests": count,
        "requests_per_s": round(count / options.seconds),
        "connections": options.connections,
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": at(1),
        "cpu_us_per_request": round(cpu_s / count * 1e6),
        "statuses": statuses,
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


def load(token: str, options: argparse.Namespace, seconds: int) -> tuple[list[float], dict[str, int]]:
    """Latencies in ascending order, and how many answers had which status."""
    body = json.dumps(ASK)
    rate = options.rate / options.connections
    arguments = [
        "hey",
        "-z",
        f"{seconds}s",
        "-c",
        str(options.connections),
        "-q",
        f"{rate:g}",
        "-o",
        "csv",
        "-m",
        "POST",
    ]
    arguments += ["-H", f"Authorization: Bearer {token}", "-T", "application/json", "-d", body]
    said = subprocess.run(
        [*arguments, f"http://127.0.0.1:{PORT}/v1/authorize"], capture_output=True, text=True, check=True
    )
    rows = list(csv.DictReader(io.StringIO(said.stdout)))
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row["status-code"]] = statuses.get(row["status-code"], 0) + 1
    return sorted(float(row["response-time"]) * 1_000 for row in rows), statuses


def start(arguments: tuple[str, ...], env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{arguments[0]}.out").open("ab") as out:
        return subprocess.Popen([*PSTN, *arguments], env=env, stdout=out, stderr=out, start_new_session=True)


def run(env: dict[str, str], *arguments: str) -> str:
    return subprocess.run([*PSTN, *arguments], env=env, capture_output=True, text=True, check=True).stdout


def wait_for(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline_s:
            sys.exit("the sandbox or the API does not start")
        time.sleep(0.2)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
