"""How a process speaks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

SPEAKER = """
import structlog
from pipeline.base.logging_io import configure_logging
from pipeline.base.settings_io import Settings

configure_logging(Settings(log_format="json"))
structlog.get_logger().info("partitions_assigned", owned=[1, 2])
"""


def test_a_line_is_written_at_once():
    """Processes that share a log, unbuffered as containers have it, would else write into each other's lines."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # keeps writes apart
    with ours, theirs:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        subprocess.run([sys.executable, "-c", SPEAKER], env=environment, stderr=theirs, check=True)
        written = ours.recv(10_000)
    assert written.endswith(b"\n")
    assert json.loads(written)["owned"] == [1, 2]
