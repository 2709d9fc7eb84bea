"""What the page is told: models, what became of an image, the ledger, an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from veilseg import __version__
from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import Segmented
from veilseg.client.sizes import sizes
from veilseg.gateway.page.words import BY_CONSTRUCTION, WORDS
from veilseg.gateway.segmenting import Segmenter
from veilseg.gateway.settings import Settings
from veilseg.vault.ledger import Sent

# Okabe–Ito and lighter shades of it: told apart by people who do not see red and green.
PALETTE: Final = (
    *((230, 159, 0), (86, 180, 233), (213, 94, 0), (0, 158, 115)),
    *((204, 121, 167), (240, 228, 66), (0, 114, 178), (153, 153, 153)),
)
# As much of a digest as tells proxies apart for people.
DIGEST_CHARACTERS: Final = 12


@dataclass(frozen=True)
class ColouredLabel:
    """A label but the background, and how it is drawn."""

    value: int
    name: str
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Disclosure:
    """What an audit says of one bundle, in words.

    Attributes
    ----------
    dataset, effort, references : str
        What it was run on, how hard, and with which references.
    images, patients : int
        Audited.
    channels : tuple of (name, sentence)
    """

    dataset: str
    effort: str
    references: str
    images: int
    patients: int
    channels: tuple[tuple[str, str], ...]


# By bundle_id.
Disclosures = Mapping[str, Disclosure]


def colours(manifest: ClientManifest) -> list[ColouredLabel]:
    """The labels of a bundle but the background, as they are drawn everywhere."""
    found = (label for label in manifest.labels if label.value)
    return [
        ColouredLabel(label.value, label.name, PALETTE[number % len(PALETTE)])
        for number, label in enumerate(found)
    ]


def about(
    segmenters: Sequence[Segmenter], settings: Settings, disclosures: Disclosures
) -> dict[str, Any]:
    """What can be chosen, and what is known of it."""
    return {
        "version": __version__,
        "upload_bytes": settings.upload_bytes,
        "upload_files": settings.upload_files,
        "keep_minutes": settings.session_s / 60,
        "by_construction": BY_CONSTRUCTION,
        "models": [_model(one, disclosures) for one in segmenters],
    }


def _model(segmenter: Segmenter, disclosures: Disclosures) -> dict[str, Any]:
    manifest = segmenter.manifest
    audit = disclosures.get(manifest.bundle_id)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "bundle_id": manifest.bundle_id,
        "scheme": manifest.scheme,
        "words": asdict(WORDS[manifest.scheme]),
        "labels": [asdict(label) for label in colours(manifest)],
        "dimension": manifest.spatial_dims,
        "channels": manifest.channels,
        "licence": manifest.licence,
        "servers": segmenter.servers,
        "has_ledger": segmenter.has_ledger,
        "needs_subject": segmenter.needs_subject,
        "audit": None if audit is None else asdict(audit),
    }


def told(found: Segmented, manifest: ClientManifest) -> dict[str, Any]:
    """What is told of a segmentation beside its voxels."""
    quantity, size = sizes(found.labels, manifest)
    return {
        "quantity": quantity,
        "sizes": {name: round(value, 4) for name, value in size.items()},
        "seconds": {name: round(value, 4) for name, value in found.seconds.items()},
        "warnings": found.warnings,
        "bytes_sent": found.bytes_sent,
        "bytes_received": found.bytes_received,
    }


def ledger(sent: Sequence[Sent]) -> list[dict[str, Any]]:
    """What was sent of a subject."""
    return [
        {"proxy": one.digest[:DIGEST_CHARACTERS], "times": one.times, "at": one.at} for one in sent
    ]
