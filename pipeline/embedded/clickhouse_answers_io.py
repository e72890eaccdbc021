"""The owner of an embedded warehouse answers read-only questions of other processes of the same user.

Loopback HTTP with a token that stands, with the port, in a file of the folder that only its user can read. The answer
is a chunked stream of blocks; one that breaks off has no last chunk, so half an answer is never taken for a whole.
"""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.warehouse.native_io import rows_of
from pipeline.warehouse.store import Rows, StoreAway, StoreRefused

_OWNER_FILE = "owner.json"
_LOOPBACK = "127.0.0.1"
_PIECE_BYTES = 64 * 1024
_QUESTION_BYTES_MAX = 1024 * 1024
_CONNECT_TIMEOUT_S = 2
# A reader takes and closes the folder for each question: it waits so long at the end of each.
_CLOSE_POLL_S = 0.05
# A question that scans everything may take long before its first row.
_ANSWER_TIMEOUT_S = 600

# A question's answer as pieces of ClickHouse's Native format.
AnswerTo = Callable[[str], Iterator[bytes]]


class Answers:
    """Serves from threads of its own until `close`, which waits for answers under way."""

    def __init__(self, folder: Path, answer_to: AnswerTo) -> None:
        token = secrets.token_urlsafe(24)
        self._server = ThreadingHTTPServer((_LOOPBACK, 0), _handler(token, answer_to))
        self._server.daemon_threads = False  # so that server_close waits for them
        self._owner_file = folder / _OWNER_FILE
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _CLOSE_POLL_S},
            name="warehouse-answers",
            daemon=True,
        )
        self._thread.start()
        owner = {"port": self._server.server_address[1], "token": token, "pid": os.getpid()}
        beside = self._owner_file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(owner, file)
        beside.replace(self._owner_file)

    def close(self) -> None:
        self._owner_file.unlink(missing_ok=True)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(token: str, answer_to: AnswerTo) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _ANSWER_TIMEOUT_S

        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "").encode()
            self.close_connection = True
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                self._say(HTTPStatus.UNAUTHORIZED, "wrong token")
                return
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= _QUESTION_BYTES_MAX:
                self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the question is too long")
                return
            with contextlib.suppress(OSError):  # who asked has gone
                self._answer(answer_to(self.rfile.read(length).decode()))

        def _answer(self, pieces: Iterator[bytes]) -> None:
            try:
                first = next(pieces)
            except (StoreAway, StoreRefused) as error:
                self._say(HTTPStatus.BAD_REQUEST, str(error))
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                self._chunk(first)
                for piece in pieces:
                    self._chunk(piece)
            except (StoreAway, StoreRefused):
                return  # without the last chunk
            self._chunk(b"")

        def _chunk(self, piece: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

        def _say(self, status: HTTPStatus, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Questions are nobody's business."""

    return Handler


class FolderOfAnother:
    """Puts questions to the folder's owner, each over a connection of its own."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.name = f"chDB in {folder}, open in another process"
        self._port = port
        self._token = token

    @classmethod
    def reach(cls, folder: Path) -> FolderOfAnother | None:
        """None when the owner is not (or no longer) there, or not yet ready."""
        try:
            owner = json.loads((folder / _OWNER_FILE).read_text(encoding="utf-8"))
            other = cls(folder, int(owner["port"]), str(owner["token"]))
            list(other.query("SELECT 1").rows)
        except (OSError, ValueError, KeyError, TypeError, StoreAway, StoreRefused):
            return None
        return other

    def query(self, sql: str) -> Rows:
        return rows_of(self._pieces(sql))

    def _pieces(self, sql: str) -> Iterator[bytes]:
        connection = http.client.HTTPConnection(_LOOPBACK, self._port, timeout=_CONNECT_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.settimeout(_ANSWER_TIMEOUT_S)
            connection.request("POST", "/", body=sql.encode(), headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            if response.status != HTTPStatus.OK:
                raise StoreRefused(response.read().decode("utf-8", "replace"))
            while piece := response.read1(_PIECE_BYTES):  # raises when the answer breaks off before its last chunk
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise StoreAway(f"{self.name}: its owner does not answer any more") from error
        finally:
            connection.close()
