"""A server that this process started ends with it, however it dies."""

from __future__ import annotations

import subprocess

# Waits until its standard input ends, which the death of this process brings about; a signal would not be sent then.
_SCRIPT = 'read -r _; kill -9 "$0" 2>/dev/null; [ -z "$1" ] || rm -rf "$1"'


class Watch:
    """From here on the death of this process ends the other one, and removes `folder` unless it is empty."""

    def __init__(self, pid: int, folder: str = "") -> None:
        command = ["sh", "-c", _SCRIPT, str(pid), folder]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def end(self) -> None:
        """Watches no more; the other process is left alone."""
        self._process.kill()
        self._process.communicate()
