"""Server halves that come later: a network fitted anew answers to the client half there is."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from veilseg.bundle import ClientBundle, ServerManifest, open_client_half
from veilseg.digests import (
    MANIFEST_FILE,
    digests_of_files,
    half_digest,
    pair_id,
    write_manifest,
)
from veilseg.errors import BundleIntegrity, OutputNotWritable


def seal_server_half(folder: Path, manifest: ServerManifest) -> ServerManifest:
    """Hash a server half's files and write its manifest, for the client half that it names.

    Parameters
    ----------
    folder : Path
        Holds the half's files already.
    manifest : ServerManifest
        ``peer_digest`` is the client half's; ``files`` and ``bundle_id`` are filled in here.
    """
    fields = asdict(manifest) | {"files": digests_of_files(folder)}
    sealed = pair_id(manifest.peer_digest, half_digest(fields))
    write_manifest(folder, fields | {"bundle_id": sealed})
    return replace(manifest, files=fields["files"], bundle_id=sealed)


def client_digest_of(half: ClientBundle) -> str:
    """By which a provider knows a client half that it does not have."""
    return half_digest(_fields(half))


def bind(bundle: Path, server_manifest: bytes, out: Path) -> str:
    """Make the bundle by which a site uses another version of the server half.

    Its client half has the same files; only which server half it belongs to is another.

    Parameters
    ----------
    bundle : Path
        With the client half.
    server_manifest : bytes
        As the provider published it.
    out : Path
        New folder.

    Returns
    -------
    str
        The new bundle id.

    Raises
    ------
    BundleIntegrity
        If the manifest is none, was changed, or belongs to another client half.
    OutputNotWritable
        If ``out`` exists or cannot be written.
    """
    half = open_client_half(bundle)
    client = _fields(half)
    own = half_digest(client)
    try:
        fields = json.loads(server_manifest)
        served = ServerManifest.from_json(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleIntegrity(f"server manifest: not one of a server half: {error}") from error
    if served.peer_digest != own:
        raise BundleIntegrity(
            f"server manifest: version {served.version} belongs to another client half than "
            f"{bundle} has"
        )
    digest = half_digest(fields)
    if pair_id(own, digest) != served.bundle_id:
        raise BundleIntegrity("server manifest: changed after it was sealed")
    client |= {
        "peer_digest": digest,
        "peer_version": served.version,
        "first_bundle_id": half.manifest.protection_id,
        "bundle_id": served.bundle_id,
    }
    try:
        out.mkdir(parents=True)
        shutil.copytree(half.folder, out / "client")
        write_manifest(out / "client", client)
    except FileExistsError as error:
        raise OutputNotWritable(f"{out}: exists already") from error
    except OSError as error:
        raise OutputNotWritable(f"{out}: cannot be written: {error.strerror}") from error
    return served.bundle_id


def _fields(half: ClientBundle) -> dict[str, Any]:
    """The manifest as it is written: defaults of a newer version are not part of it."""
    found: dict[str, Any] = json.loads((half.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    return found
