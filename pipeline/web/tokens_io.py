"""The file of tokens: written whole, readable by its owner only, read again when it has changed."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.web.tokens import Role, Token, TokenFileError, digest_of, dump_tokens, load_tokens

_SECRET_BYTES = 32
_LOOK_S = 1.0
"""A revoked token works for a second more at most."""


def create_token(path: Path, *, name: str, role: Role, tenants: frozenset[str] | None, created_by: str) -> str:
    """The secret, which is shown once and kept nowhere. TokenFileError when the name is taken."""
    secret = f"pstn_{secrets.token_urlsafe(_SECRET_BYTES)}"
    with _locked(path):
        tokens = read_tokens(path)
        if any(token.name == name and token.revoked_at is None for token in tokens):
            raise TokenFileError(f"there is a token {name} already: revoke it, or take another name")
        tokens.append(Token(name, role, tenants, digest_of(secret), time.time_ns() // 1_000_000, created_by))
        _write(path, tokens)
    return secret


def revoke_token(path: Path, name: str) -> None:
    """TokenFileError when there is no such token in force."""
    with _locked(path):
        tokens = read_tokens(path)
        if not any(token.name == name and token.revoked_at is None for token in tokens):
            raise TokenFileError(f"there is no token {name} in force: `pstn token list` has those that are")
        now_ms = time.time_ns() // 1_000_000
        is_it = [token.name == name and token.revoked_at is None for token in tokens]
        _write(path, [t._replace(revoked_at=now_ms) if hit else t for t, hit in zip(tokens, is_it, strict=True)])


def read_tokens(path: Path) -> list[Token]:
    """All tokens, revoked ones too; none when there is no file. TokenFileError when it is something else."""
    try:
        return load_tokens(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (TokenFileError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path}: {error}") from None


class TokenBook:
    """Tokens in force, by digest; follows the file. A file that became unreadable lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._looked_s = float("-inf")
        self._by_digest: dict[str, Token] = {}

    def find(self, secret: str) -> Token | None:
        now_s = time.monotonic()
        if now_s - self._looked_s > _LOOK_S:
            self._looked_s = now_s
            self._look()
        return self._by_digest.get(digest_of(secret))

    def _look(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self._state:
                tokens = read_tokens(self._path)
                self._by_digest = {token.digest: token for token in tokens if token.revoked_at is None}
                self._state = state
        except (OSError, TokenFileError):
            self._by_digest, self._state = {}, None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands at once must not lose each other's token."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, tokens: list[Token]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(dump_tokens(tokens))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
