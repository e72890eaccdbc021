"""One Apache Kafka node (KRaft, broker and controller in one JVM) on loopback, for tests, benchmarks and the demo.

The real server: real transactions, real fencing, LogAppendTime, compaction. Jars come from Maven Central once into
`.cache/`; each node formats a data folder of its own with Kafka's storage tool. `kill()` is `kill -9`, and `restart()`
comes back on the same data and the same port. Nothing listens beyond 127.0.0.1.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient

from pipeline.embedded.watch_io import Watch

_POM = Path("tests") / "kafka" / "pom.xml"
# The checkout that this file is in, be it as a source or in `build/compiled`.
REPOSITORY = next((each for each in Path(__file__).resolve().parents if (each / _POM).exists()), Path.cwd())
POM = REPOSITORY / _POM
JARS = REPOSITORY / ".cache" / "kafka-jars"
INSTALL_HINT = "install Java 17 and Maven: apt-get install -y openjdk-17-jre-headless maven"
HEAP_MIB = 512
START_S_MAX = 60.0
STOP_S_MAX = 20.0

# Below Linux's range for outgoing connections (32768 and up): between kill() and restart() a client that knocks on the
# old port from the same host could otherwise be given that very port and hold it.
_PORTS = range(20_000, 32_000)

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",  # 50 by default: 4 s of file creation for one user
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # 9 s by default, and a killed node waits for it before it may register again
    "log.cleaner.dedupe.buffer.size": str(32 * 2**20),  # 128 MiB by default: a quarter of the heap
    "log.cleaner.threads": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

_LOG4J = """\
<Configuration status="ERROR">
  <Appenders><File name="file" fileName="{path}"><PatternLayout pattern="%d %p %c{{1}} %m%n"/></File></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="file"/></Root></Loggers>
</Configuration>
"""


class KafkaUnavailable(RuntimeError):
    """No Kafka can be started here; the message is one line that says what to install or where to look."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, outside the range of outgoing connections."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise KafkaUnavailable("no free port between 20000 and 32000 on 127.0.0.1")


def java_command() -> str:
    """Path of `java`; KafkaUnavailable when there is none."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise KafkaUnavailable(f"no Java found; {INSTALL_HINT}")
    return java


def fetch_jars(target: Path = JARS) -> Path:
    """Kafka's jars in `target`, fetched with Maven unless they are there for this pom already; safe to call from
    several processes at once. KafkaUnavailable names what is missing."""
    if not POM.exists():
        raise KafkaUnavailable(f"a local Kafka needs a checkout of the repository: {POM} is missing")
    wanted = POM.read_bytes()
    stamp = target / "fetched-for-pom.xml"
    target.mkdir(parents=True, exist_ok=True)
    with (target.parent / "kafka-jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == wanted:
            return target
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaUnavailable(f"Kafka's jars are not fetched yet and there is no Maven; {INSTALL_HINT}")
        for old in target.iterdir():
            old.unlink()
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        command = [maven, "-B", "-q", "-f", str(POM), goal, f"-DoutputDirectory={target}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            first = (done.stdout + done.stderr).strip().splitlines()[:1]
            raise KafkaUnavailable(f"Maven could not fetch Kafka's jars: {' '.join(first)}")
        stamp.write_bytes(wanted)
    return target


class KafkaNode:
    """One node. `with KafkaNode() as node:` starts it, and ends it with its folder removed.

    `folder` (kept when given) holds `data/`, `server.properties` and the logs. `settings` are added to the broker's.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        heap_mib: int = HEAP_MIB,
        jars: Path = JARS,
    ) -> None:
        self._is_folder_ours = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="pstn-kafka-")) if folder is None else folder
        self.port = free_port()
        self._controller_port = free_port()
        self._settings = dict(settings or {})
        self._heap_mib = heap_mib
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: Watch | None = None
        atexit.register(self.close)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Returns when the node answers clients (about 4 s the first time). KafkaUnavailable names the log."""
        if self.is_running:
            return self
        fetch_jars(self._jars)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        with (self.folder / "server.out").open("ab") as out:
            self._process = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the worker first; the node ends after it
            )
        self._watch = Watch(self._process.pid, str(self.folder) if self._is_folder_ours else "")
        self._await_ready()
        return self

    def stop(self) -> None:
        """SIGTERM and wait: a clean end. The data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. The data stay as the crash left them."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the node holds its connections and answers nobody until `resume`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> Self:
        """A clean stop where it still runs, then a start on the same data and port."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Ends the node at once and removes its folder, unless the caller gave the folder."""
        if self._is_folder_ours:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.stop()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _java(self) -> list[str]:
        log4j = self.folder / "log4j2.xml"
        log4j.write_text(_LOG4J.format(path=self.folder / "server.log"))
        heap = [f"-Xms{self._heap_mib}m", f"-Xmx{self._heap_mib}m"]
        options = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true"]
        return [java_command(), *heap, *options, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{self._jars}/*"]

    def _format(self) -> None:
        properties = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder / "data"),
            **self._settings,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        tool = [*self._java(), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(path)]
        done = subprocess.run(tool, capture_output=True, text=True, check=False)
        (self.folder / "format.out").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise KafkaUnavailable(f"Kafka's storage tool failed ({' '.join(last)}); Java 17 or newer is needed")

    def _await_ready(self) -> None:
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            if not self.is_running:
                raise KafkaUnavailable(f"Kafka ended while starting; see {self.folder}/server.out and server.log")
            # TCP first: librdkafka waits ever longer after each refused connection.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
                with contextlib.suppress(Exception):  # KafkaException: not yet; the loop is bounded
                    if admin.list_topics(timeout=5).brokers:
                        return
            time.sleep(0.05)
        raise KafkaUnavailable(f"Kafka did not answer within {START_S_MAX:.0f} s; see {self.folder}/server.log")

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a paused process would not see SIGTERM
            process.send_signal(how)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None
