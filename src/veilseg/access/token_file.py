"""The tokens of a service on disk: hashes only, private to its user, changed while it runs."""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from veilseg.access import tokens
from veilseg.access.errors import InvalidTokens
from veilseg.access.tokens import Grant
from veilseg.errors import InvalidInput
from veilseg.files import mode_open_to_others, written_whole

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
LOCK_TIMEOUT_S: Final = 30


def read_grants(path: Path) -> dict[str, Grant]:
    """All grants by id.

    Raises
    ------
    InvalidTokens
        If the file is missing, no tokens file, or open to others.
    """
    if not path.is_file():
        raise InvalidTokens(
            f"{path}: no tokens file; make one with: veilseg token issue {path} --site NAME"
        )
    mode = mode_open_to_others(path)
    if mode is not None:
        raise InvalidTokens(
            f"{path}: open to others (mode {mode:o}); who writes it lets himself in: chmod 600 it"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format_version"] != FORMAT_VERSION:
            raise InvalidTokens(f"{path}: format_version: this version reads {FORMAT_VERSION}")
        grants = [Grant.from_json(fields) for fields in document["tokens"]]
    except OSError as error:
        raise InvalidTokens(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidTokens(f"{path}: no tokens file ({type(error).__name__})") from error
    except InvalidTokens:
        raise
    except InvalidInput as error:
        raise InvalidTokens(f"{path}: {error}") from error
    return {grant.id: grant for grant in grants}


def add(path: Path, site: str, roles: Iterable[str], days: float) -> tuple[str, Grant]:
    """Issue a token; the file is made if it is missing. Raises as :func:`tokens.issue`."""
    token, grant = tokens.issue(site, roles, days)
    with _locked(path):
        grants = read_grants(path) if path.exists() else {}
        _write(path, {**grants, grant.id: grant})
    return token, grant


def rotate(path: Path, name: str, grace_hours: float) -> tuple[str, Grant, Grant]:
    """Replace a token by its :func:`tokens.successor`; gives token, new and old grant."""
    with _locked(path):
        grants = read_grants(path)
        token, new, old = tokens.successor(_named(path, grants, name), grace_hours)
        _write(path, {**grants, old.id: old, new.id: new})
    return token, new, old


def revoke(path: Path, name: str) -> Grant:
    """End a token at once. Its entry stays, so that the log can be read later."""
    with _locked(path):
        grants = read_grants(path)
        ended = replace(_named(path, grants, name), revoked=True)
        _write(path, {**grants, name: ended})
    return ended


class TokenFile:
    """The grants of a file as it is now; a file that breaks leaves the last good ones.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InvalidTokens
        As :func:`read_grants`, at the start only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _fingerprint(path)
        self._grants: Mapping[str, Grant] = read_grants(path)

    def grant_of(self, token: str) -> Grant:
        """Check a token. Raises :class:`~veilseg.access.errors.NotAuthenticated`."""
        self._refresh()
        return tokens.grant_of(token, self._grants)

    def _refresh(self) -> None:
        # A look at the file's times takes microseconds; a thread that watches would be late.
        seen = _fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._grants = read_grants(self._path)
        except InvalidTokens as error:
            logger.error("tokens: the last good ones stay in use: %s", error)
        else:
            logger.info("tokens: %d read anew", len(self._grants))


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two people may change the file at once; neither must lose the other's tokens."""
    if not path.parent.is_dir():
        raise InvalidTokens(f"{path}: the folder is missing")
    try:
        lock = FileLock(path.parent / f".{path.name}.lock", timeout=LOCK_TIMEOUT_S)
        lock.acquire()
    except Timeout as error:
        raise InvalidTokens(f"{path}: somebody else is changing it") from error
    except OSError as error:
        raise InvalidTokens(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _named(path: Path, grants: Mapping[str, Grant], name: str) -> Grant:
    if name not in grants:
        raise InvalidTokens(f"{path}: no token {name}; see: veilseg token list {path}")
    return grants[name]


def _write(path: Path, grants: Mapping[str, Grant]) -> None:
    document = {
        "format_version": FORMAT_VERSION,
        "tokens": [grant.to_json() for grant in grants.values()],
    }
    with written_whole(path, private=True) as temporary, temporary.open("w") as stream:
        json.dump(document, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
