"""What pins the halves of a bundle: SHA-256 of files, of a half, of a pair of halves."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

MANIFEST_FILE: Final = "manifest.json"
# Of the other half, which either half verifies without.
_OF_THE_PAIR: Final = frozenset({"peer_digest", "peer_version", "bundle_id", "first_bundle_id"})


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests_of_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a half but its manifest."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_FILE
    }


def half_digest(fields: dict[str, Any]) -> str:
    """Of a manifest's fields, those that name the other half left out."""
    covered = {name: value for name, value in fields.items() if name not in _OF_THE_PAIR}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def pair_id(client_digest: str, server_digest: str) -> str:
    """The ``bundle_id`` of two halves."""
    return hashlib.sha256(f"{client_digest}:{server_digest}".encode()).hexdigest()


def write_manifest(folder: Path, fields: dict[str, Any]) -> None:
    """Write a half's manifest."""
    text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
