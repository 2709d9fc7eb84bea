"""Whom an audit is about: audited patients, an attacker's own, and what the server saw."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import veilseg
from veilseg import __version__
from veilseg.audit.comparators import law_of
from veilseg.audit.grids import central, fitted
from veilseg.audit.laws import EncodedLaw, Law, MixtureLaw
from veilseg.bundle import ClientBundle, ClientManifest
from veilseg.client.pipeline import process
from veilseg.client.processor import TileProcessor
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import WIRE_DTYPE, Float32Array, Proxy, Receipt
from veilseg.scheme import ClientHalf
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.mixup.client import MixupReceipt, has_synthetic_references
from veilseg.schemes.references import TEMPLATE_FILE, Template
from veilseg.schemes.registry import NEEDS_VAULT, client_half
from veilseg.vault.vault import LabelledReference, Vault

# Nothing leaves in an audit; a fixed key makes it the same in every run.
AUDIT_KEY = hashlib.sha256(b"veilseg audit").digest()

Chosen = TypeVar("Chosen")


@dataclass(frozen=True)
class Observation:
    """One tile as a server gets it, with the truth beside it for scoring.

    Attributes
    ----------
    case, patient : str
    proxy : ndarray, shape (C, *tile), float32
        At the precision of the wire.
    answer : ndarray, shape (K, *tile), float32
    image : ndarray, shape (C, *tile), float32
    labels : ndarray, shape tile, uint8
    reference : ndarray, shape (C, *tile), or None
        As it was mixed; None where nothing is mixed.
    reference_labels : ndarray, shape tile, or None
    shown_labels : ndarray, shape tile, or None
        Labels as the proxy shows them; None where they lie as in the image.
    """

    case: str
    patient: str
    proxy: Float32Array
    answer: Float32Array
    image: Float32Array
    labels: NDArray[np.uint8]
    reference: Float32Array | None
    reference_labels: NDArray[np.uint8] | None
    shown_labels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Scene:
    """What an audit works on.

    Attributes
    ----------
    bundle : ClientBundle
    server : TileProcessor
        The server half, which the attacker runs as well.
    auxiliary : sequence of PreparedCase
        Of the attacker: labelled, of other patients than the audited.
    audited : sequence of PreparedCase
    members : sequence of PreparedCase
        Those of the auxiliary that the server half was trained on; empty where that is unknown.
    references : sequence of LabelledReference
        Of the site; empty for synthetic ones.
    seed : int
    key : ConsortiumKey or None
        Of the site's consortium.
    """

    bundle: ClientBundle
    server: TileProcessor
    auxiliary: Sequence[PreparedCase]
    audited: Sequence[PreparedCase]
    members: Sequence[PreparedCase] = ()
    references: Sequence[LabelledReference] = ()
    seed: int = 0
    key: ConsortiumKey | None = None

    @property
    def manifest(self) -> ClientManifest:
        return self.bundle.manifest

    @property
    def mixes(self) -> bool:
        """Whether proxies are mixtures."""
        return self.manifest.scheme == "mixup"

    @property
    def encodes(self) -> bool:
        """Whether proxies are encodings of single tiles."""
        return self.manifest.scheme == "encoding"

    @property
    def hides(self) -> bool:
        """Whether proxies are images, but not the patient's as it is."""
        return not self.encodes and self.manifest.scheme != "plain"

    @property
    def varies(self) -> bool:
        """Whether an image can have several proxies."""
        return self.manifest.scheme in NEEDS_VAULT

    @property
    def averages(self) -> bool:
        """Whether several proxies of one image lie over each other."""
        return self.varies and self.manifest.scheme != "deformation"

    @property
    def encodes_images(self) -> bool:
        """Whether proxies are encodings on the image's grid, which only sites can make."""
        return self.manifest.scheme == "privacy_net"

    @property
    def coefficient(self) -> float:
        """Weight of the patient in what is sent by default; 1 where nothing is mixed."""
        return float(self.manifest.settings["coefficient"]) if self.mixes else 1.0

    @property
    def classes(self) -> int:
        return len(self.manifest.labels)

    def fingerprint(self) -> str:
        """Of all that a finding depends on but the effort and the seed, the code included."""
        digest = hashlib.sha256(f"{__version__} {self.manifest.bundle_id}".encode())
        for path in sorted(Path(veilseg.__file__).parent.rglob("*.py")):
            digest.update(path.read_bytes())
        for cases in (self.auxiliary, self.audited, self.members, self.references):
            digest.update(b"|")
            for case in cases:
                digest.update(f"{case.patient};".encode())
                digest.update(case.image.tobytes())
                digest.update(case.labels.tobytes())
        return digest.hexdigest()

    def law(self, coefficient: float | None = None) -> Law:
        """How the attacker makes proxies like the site's, or at another coefficient."""
        if self.encodes:
            return EncodedLaw(self.classes, self.client())
        if not self.mixes:
            return law_of(self.bundle, self.classes)
        a = self.coefficient if coefficient is None else coefficient
        template = None
        if not self.references and has_synthetic_references(self.manifest):
            template = Template.load(self.bundle.file(TEMPLATE_FILE))
        return MixtureLaw(self.classes, a, template, self.auxiliary)

    def client(self) -> ClientHalf:
        """The site's half of a scheme that needs no vault."""
        return client_half(self.bundle, None, key=self.key)

    def as_sent(self, images: Sequence[Float32Array]) -> Sequence[Float32Array]:
        """The attacker's images on the tile's grid, as the server can be asked about them."""
        if not self.encodes_images:
            return images
        half = self.client()
        return [half.protect(image, "")[0].array for image in images]

    def observe(
        self,
        cases: Sequence[PreparedCase],
        mixture: int = 0,
        coefficient: float | None = None,
        answered: bool = True,
    ) -> list[Observation]:
        """What a real site sends of these cases, and what the server answers.

        Parameters
        ----------
        cases : sequence of PreparedCase
        mixture : int
            Which of several proxies of an image.
        coefficient : float or None
            None for the bundle's own.
        answered : bool
            Whether to ask the server; else answers are empty.
        """
        a = coefficient if self.mixes else None
        tile = self.manifest.tile_shape
        cut = [fitted(case, tile) for case in cases] if self.encodes else cases
        with Vault.in_memory(AUDIT_KEY, self.references) as vault:
            half = client_half(self.bundle, vault, coefficient=a, key=self.key)
            return [
                self._observe(half.protect(case.image, case.patient, mixture), case, answered)
                for case in cut
            ]

    def recovered(
        self, cases: Sequence[PreparedCase], change: Callable[[Float32Array], Float32Array]
    ) -> list[NDArray[np.uint8]]:
        """Labels that a site recovers of these cases if the server's answers are changed."""

        def changed(tile: Float32Array) -> Float32Array:
            return change(self.server(tile))

        with Vault.in_memory(AUDIT_KEY, self.references) as vault:
            half = client_half(self.bundle, vault if self.mixes else None)
            found = []
            for case in cases:
                proxy, receipt = half.protect(case.image, case.patient)
                answer = process(proxy, self.manifest, changed, None)
                found.append(half.recover(answer, receipt).argmax(axis=0).astype(np.uint8))
        return found

    def simulate(
        self, law: Law, cases: Sequence[PreparedCase], answered: bool, first: int = 0
    ) -> list[Observation]:
        """Proxies of these cases by a law instead of the site, for controls.

        Parameters
        ----------
        law : Law
        cases : sequence of PreparedCase
        answered : bool
            Whether to ask the server; else answers are empty.
        first : int
            Number of the first draw: other numbers give other proxies.
        """
        observations = []
        for number, case in enumerate(cases, start=first):
            rng = np.random.default_rng([self.seed, 3, number])
            if self.encodes:
                case = fitted(case, self.manifest.tile_shape)
            window = central(case.labels.shape, self.manifest.tile_shape)
            found = {
                name: array if array.ndim == 1 else array[(slice(None), *window)]
                for name, array in law.example(case, rng).items()
                if array.ndim  # a number, as the coefficient, has no place
            }
            tile = on_the_wire(found["proxy"])
            answer = self._answer(tile, answered)
            observations.append(
                Observation(
                    *(case.name, case.patient, tile, answer, found["image"]),
                    _strongest(found["target"]),
                    found.get("reference"),
                    *(
                        _strongest(found[name]) if name in found else None
                        for name in ("reference_labels", "shown_target")
                    ),
                )
            )
        return observations

    def _observe(
        self, sent: tuple[Proxy, Receipt], case: PreparedCase, answered: bool
    ) -> Observation:
        window = central(case.labels.shape, self.manifest.tile_shape)
        proxy, receipt = sent
        shown = proxy.array[0] if proxy.tiled else proxy.array[(slice(None), *window)]
        tile = on_the_wire(shown)
        reference, reference_labels = None, None
        if isinstance(receipt, MixupReceipt):
            reference = receipt.reference.image[(slice(None), *window)]
            reference_labels = receipt.reference.labels[window]
        return Observation(
            *(case.name, case.patient, tile, self._answer(tile, answered)),
            *(case.image[(slice(None), *window)], case.labels[window]),
            *(reference, reference_labels),
        )

    def _answer(self, tile: Float32Array, answered: bool) -> Float32Array:
        return self.server(tile) if answered else np.empty((0, *tile.shape[1:]), np.float32)


def _strongest(maps: Float32Array) -> NDArray[np.uint8]:
    return np.asarray(maps.argmax(axis=0), dtype=np.uint8)


def on_the_wire(proxy: Float32Array) -> Float32Array:
    """A proxy as a server gets it: sixteen bits a voxel."""
    return np.ascontiguousarray(proxy, dtype=WIRE_DTYPE).astype(np.float32)


def evenly(cases: Sequence[Chosen], most: int) -> list[Chosen]:
    """At most so many, spread over all of them."""
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int))
    return [cases[index] for index in chosen]
