"""A ClickHouse server on this machine's loopback, with its own configuration, ports and data folder.

Made for Debian's `clickhouse-server` 18.16.1, which the driver's path is tested against. One node, no password: for
tests and trials. It outlives nothing: `stop` ends it politely, `kill` as a power cut of the process would.
"""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from xml.sax.saxutils import escape

from clickhouse_driver import Client, errors

from pipeline.embedded.watch_io import Watch

# While the server starts, each refused connection would be logged with a traceback.
logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05

_CONFIG = """<yandex>
  <logger>
    <level>warning</level>
    <log>{folder}/server.log</log>
    <errorlog>{folder}/server.err.log</errorlog>
    <size>10M</size>
    <count>2</count>
  </logger>
  <tcp_port>{port}</tcp_port>
  <listen_host>127.0.0.1</listen_host>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/data/tmp/</tmp_path>
  <user_files_path>{folder}/data/user_files/</user_files_path>
  <users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
</yandex>
"""
_USERS = """<yandex>
  <profiles><default><max_memory_usage>2000000000</max_memory_usage></default></profiles>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
  <quotas><default/></quotas>
</yandex>
"""


class ServerNotStarted(Exception):
    """One line for a person: what is missing, or where the server's own words are."""


class ClickHouseServer:
    """`start` returns when it answers; the port stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: Watch | None = None

    @staticmethod
    def executable() -> str | None:
        """Where the server is installed; None when it is not."""
        return shutil.which("clickhouse-server") or shutil.which("clickhouse-server", path="/usr/sbin:/usr/bin")

    def url(self, database: str = "default") -> str:
        return f"clickhouse://{_HOST}:{self.port}/{database}"

    def start(self) -> None:
        executable = self.executable()
        if executable is None:
            raise ServerNotStarted("clickhouse-server is not installed: type `apt-get install clickhouse-server`")
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.xml"
        config.write_text(_CONFIG.format(folder=escape(str(self.folder)), port=self.port), encoding="utf-8")
        (self.folder / "users.xml").write_text(_USERS, encoding="utf-8")
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [executable, f"--config-file={config}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # a Ctrl-C at the terminal is for who started it, who then stops it
            )
        self._watch = Watch(self._process.pid)
        self._wait_until_it_answers(self._process)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it."""
        if self._process is None:
            return
        self._unwatch()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL: no flush, no goodbye."""
        if self._process is not None:
            self._unwatch()
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: alive, and silent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s and process.poll() is None:
            client = Client(_HOST, port=self.port, connect_timeout=1)
            try:
                client.execute("SELECT 1")
            except (OSError, EOFError, errors.Error):
                time.sleep(_POLL_S)
            else:
                return
            finally:
                client.disconnect()
        self.kill()
        raise ServerNotStarted(f"clickhouse-server did not start: its own words are in {self.folder}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
