"""What audits say of bundles, for the gateway's page. Their words are the audit's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veilseg.audit.findings import CHANNELS
from veilseg.audit.verdict import sentence
from veilseg.bundle import ClientManifest
from veilseg.errors import InvalidInput

if TYPE_CHECKING:
    from veilseg.gateway.page.documents import Disclosure


def disclosures(
    files: Sequence[Path], manifests: Sequence[ClientManifest]
) -> "dict[str, Disclosure]":
    """Read what ``veilseg audit --json`` wrote, by the bundle that it is of.

    Raises
    ------
    InvalidInput
        If a file is no audit, or of none of these bundles, or two are of one.
    """
    names = {one.bundle_id: one.name for one in manifests}
    found: dict[str, Disclosure] = {}
    for file in files:
        bundle_id, disclosure = _read(file)
        if bundle_id not in names:
            raise InvalidInput(f"{file}: is of bundle {bundle_id[:12]}, which is not offered here")
        if bundle_id in found:
            raise InvalidInput(f"{file}: another audit of {names[bundle_id]} was given already")
        found[bundle_id] = disclosure
    return found


def _read(file: Path) -> "tuple[str, Disclosure]":
    from veilseg.gateway.page.documents import Disclosure

    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        channels = document["channels"]
        return document["bundle_id"], Disclosure(
            dataset=str(document["dataset"]),
            effort=str(document["effort"]),
            references=str(document["references"]),
            images=int(document["n_audited"]),
            patients=int(document["n_patients"]),
            channels=tuple((name, sentence(name, channels[name])) for name in CHANNELS),
        )
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file}: is no audit: veilseg audit --json writes them") from error
