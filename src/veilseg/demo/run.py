"""Everything once: plain, mixed and encoded on a real server, against the truth and attacked."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.client.pipeline import Outgoing, process, protect
from veilseg.client.remote import RemoteServer
from veilseg.demo.brain import TISSUES, Brain, template_brain, tissues_of
from veilseg.demo.server import server_process
from veilseg.demo.tokens import groups
from veilseg.evaluation.dice import dice_per_class
from veilseg.imaging.preprocessing import restore
from veilseg.payload import Answer, Float32Array
from veilseg.schemes.mixup.client import MixupReceipt
from veilseg.schemes.registry import client_half
from veilseg.vault.vault import Vault

BUNDLES = ("brain-tissue-plain", "brain-tissue-mixup", "brain-tissue-encoding")
SUBJECT = "MNI152"
# The template is public, so nothing is secret; a fixed key makes the figures those of README.
DEMO_KEY = hashlib.sha256(b"veilseg demo").digest()
# At a = ½ a class of the patient alone, or of the reference alone, stands at ½ in the answer and
# one of both at 1: a quarter is the middle between ½ and 0.
UNION_THRESHOLD = 0.25
STEPS = 6  # of the progress bar

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Run:
    """One segmentation of the demo brain with all that was seen on the way.

    Arrays are on the bundle's grid, except ``tissues``, which is on the image's own.
    """

    bundle: ClientBundle
    outgoing: Outgoing
    answer: Answer
    recovered: NDArray[np.uint8]
    tissues: NDArray[np.uint8]
    seconds: float
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True)
class DemoResult:
    """What the report shows.

    Attributes
    ----------
    brain : Brain
    plain, private, encoded : Run
        The private one is of mixtures.
    separated, alike : ndarray, shape (X, Y, Z), uint8
        What a server reads off its answers, to a mixture and to an encoding.
    figures : dict
        report.json.
    """

    brain: Brain
    plain: Run
    private: Run
    encoded: Run
    separated: NDArray[np.uint8]
    alike: NDArray[np.uint8]
    figures: dict[str, Any]


def run_demo(models: Path, report: Report) -> DemoResult:
    """Segment the template brain plainly, mixed and encoded against a real server process.

    Parameters
    ----------
    models : Path
        Folder with :data:`BUNDLES`.
    report : callable
        Called with (done, total, what).

    Raises
    ------
    InvalidInput, IntegrityError, ServerError
    """
    report(0, STEPS, "reading the MNI152 template")
    brain = template_brain()
    folders = [models / name for name in BUNDLES]
    plain_bundle, private_bundle, encoded_bundle = map(open_client_half, folders)
    report(1, STEPS, "starting a server")
    with server_process(folders) as url, tempfile.TemporaryDirectory() as temporary:
        vault_folder = Path(temporary) / "vault"
        Vault.create(vault_folder, private_bundle.manifest.protection_id, key=DEMO_KEY)
        with Vault.open(vault_folder, private_bundle.manifest.protection_id) as vault:
            report(2, STEPS, "segmenting plainly")
            plain = _segmented(plain_bundle, None, url, brain)
            report(3, STEPS, "segmenting by a mixture")
            private = _segmented(private_bundle, vault, url, brain)
        report(4, STEPS, "segmenting by an encoding")
        encoded = _segmented(encoded_bundle, None, url, brain)
    report(5, STEPS, "reading masks off the answers")
    separated = separate(private.answer.array)
    alike = named(
        groups(encoded.answer.array, encoded.bundle.manifest, encoded.recovered.shape),
        encoded.recovered,
    )
    figures = _figures(brain, plain, private, encoded, separated, alike)
    report(STEPS, STEPS, "done")
    return DemoResult(brain, plain, private, encoded, separated, alike, figures)


def separate(answer: Float32Array) -> NDArray[np.uint8]:
    """What a server reads off its own answer at a = ½, with no oracle: the union of both masks.

    Parameters
    ----------
    answer : ndarray, shape (K, X, Y, Z)

    Returns
    -------
    ndarray, shape (X, Y, Z), uint8
        The strongest foreground class where foreground passes the threshold.
    """
    foreground = answer[1:]
    union = foreground.sum(axis=0) >= UNION_THRESHOLD
    return np.where(union, foreground.argmax(axis=0) + 1, 0).astype(np.uint8)


def named(numbers: NDArray[np.intp], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Groups of tokens as the server would have them if it were told what each is of.

    Parameters
    ----------
    numbers : ndarray, shape (X, Y, Z)
        Of a group at each voxel.
    labels : ndarray, shape (X, Y, Z), uint8

    Returns
    -------
    ndarray, shape (X, Y, Z), uint8
        Of each group, the label that most of it has.
    """
    label_of = [
        np.bincount(labels[numbers == group], minlength=1).argmax()
        for group in range(int(numbers.max()) + 1)
    ]
    return np.array(label_of, dtype=np.uint8)[numbers]


def _segmented(bundle: ClientBundle, vault: Vault | None, url: str, brain: Brain) -> Run:
    manifest = bundle.manifest
    half = client_half(bundle, vault)
    with RemoteServer(url, manifest) as server:
        server.check()
        started = time.perf_counter()
        outgoing = protect([brain.image], SUBJECT, manifest, half)
        if vault is not None:
            vault.record(SUBJECT, outgoing.proxy.digest(), allow_repeat=False)
        answer = process(outgoing.proxy, manifest, server, None)
        probabilities = half.recover(answer, outgoing.receipt)
        labels = restore(probabilities, outgoing.restoration)
        seconds = time.perf_counter() - started
        traffic = server.bytes_sent, server.bytes_received
    names = tuple(label.name for label in manifest.labels)
    return Run(
        bundle,
        outgoing,
        answer,
        probabilities.argmax(axis=0).astype(np.uint8),
        tissues_of(labels.array, names),
        seconds,
        *traffic,
    )


def _figures(
    brain: Brain,
    plain: Run,
    private: Run,
    encoded: Run,
    separated: NDArray[np.uint8],
    alike: NDArray[np.uint8],
) -> dict[str, Any]:
    names = tuple(label.name for label in private.bundle.manifest.labels)

    def on_own_grid(labels: NDArray[np.uint8], run: Run) -> NDArray[np.uint8]:
        maps = np.stack([labels == value for value in range(len(names))]).astype(np.float32)
        return tissues_of(restore(maps, run.outgoing.restoration).array, names)

    def dice(found: NDArray[np.uint8]) -> dict[str, float]:
        scores = dice_per_class(found, brain.truth, len(TISSUES) + 1)
        return {name: round(score, 4) for name, score in zip(TISSUES, scores, strict=True)}

    runs = plain, private, encoded
    receipt = private.outgoing.receipt
    assert isinstance(receipt, MixupReceipt)
    per_class = {
        "plain": dice(plain.tissues),
        "private": dice(private.tissues),
        "encoded": dice(encoded.tissues),
        "answer_separation": dice(on_own_grid(separated, private)),
        "alike_tokens": dice(on_own_grid(alike, encoded)),
        # Someone who knows nothing of the patient but the reference: what chance looks like.
        "reference_alone": dice(on_own_grid(receipt.reference.labels, private)),
    }
    means = {name: round(float(np.mean(list(d.values()))), 4) for name, d in per_class.items()}
    return {
        "image": "MNI152 T1 template (nilearn)",
        "dice_plain": means["plain"],
        "dice_private": means["private"],
        "dice_encoded": means["encoded"],
        "seconds_plain": round(plain.seconds, 3),
        "seconds_private": round(private.seconds, 3),
        "seconds_encoded": round(encoded.seconds, 3),
        "bytes_sent": private.bytes_sent,
        "bytes_received": private.bytes_received,
        "bytes_sent_plain": plain.bytes_sent,
        "bytes_received_plain": plain.bytes_received,
        "bytes_sent_encoded": encoded.bytes_sent,
        "bytes_received_encoded": encoded.bytes_received,
        "answer_separation_dice": means["answer_separation"],
        "alike_tokens_dice": means["alike_tokens"],
        "reference_alone_dice": means["reference_alone"],
        "dice_per_class": per_class,
        "bundles": {run.bundle.manifest.name: run.bundle.manifest.bundle_id for run in runs},
        "warnings": [*dict.fromkeys(one for run in runs for one in run.outgoing.warnings)],
    }
