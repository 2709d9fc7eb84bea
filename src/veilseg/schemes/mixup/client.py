"""Client half of Mixup-Privacy: mix with a secret reference, unmix what comes back.

NumPy and ONNX Runtime only (method.md §1, §6).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from veilseg.bundle import ClientBundle, ClientManifest
from veilseg.errors import BundleIntegrity, GeometryMismatch, InvalidInput, InvalidVault, WrongUsage
from veilseg.imaging.tiling import blended, tiles
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.runtime import Load, OnnxModel
from veilseg.scheme import require_channels
from veilseg.schemes.mixup.mixing import mix, unmix_algebraically
from veilseg.schemes.references import (
    TEMPLATE_FILE,
    UNMIXER_FILE,
    Reference,
    Template,
    labelled_reference,
    synthetic_reference,
)
from veilseg.schemes.secret import content_of, secret_generator
from veilseg.vault.vault import Vault

Unmixing = Literal["learned", "algebraic"]


@dataclass(frozen=True, repr=False)
class MixupReceipt(Receipt):
    """The reference as it was mixed. Never leaves the site."""

    reference: Reference


def unmixings(manifest: ClientManifest) -> tuple[Unmixing, ...]:
    """Ways to recover that a bundle offers, its default first.

    A bundle that was trained for the algebra alone has no unmixing network.
    """
    only_algebraic = manifest.settings.get("unmixing") == "algebraic"
    return ("algebraic",) if only_algebraic else ("learned", "algebraic")


def has_synthetic_references(manifest: ClientManifest) -> bool:
    """Whether a bundle has a template to draw references from.

    Where labels lie at no common place (nuclei, vessels) there is none.
    """
    return "synthetic" in manifest.settings.get("references", ["synthetic"])


class MixupClient:
    """Client half of ``mixup``.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault
        Key and references of the site.
    unmixing : {"learned", "algebraic"} or None
        The paper's unmixing network, or the algebraic baseline. None: the bundle's default.
    coefficient : float or None
        Weight of the patient image, within the range the bundle was trained for. None: the
        bundle's default.
    load : callable
        Opens the unmixing network.

    Raises
    ------
    BundleIntegrity
        If the bundle has no usable template, coefficient or unmixing network.
    WrongUsage
        If it offers only the algebraic unmixing.
    InvalidInput
        If it was not trained for the coefficient.
    InvalidVault
        If it has no template and the vault no labelled references.
    """

    def __init__(
        self,
        bundle: ClientBundle,
        vault: Vault,
        unmixing: Unmixing | None = None,
        coefficient: float | None = None,
        load: Load = OnnxModel,
    ) -> None:
        manifest = bundle.manifest
        offered = unmixings(manifest)
        unmixing = unmixing or offered[0]
        if unmixing not in offered:
            raise WrongUsage(
                f"--unmixing {unmixing}: {manifest.name} has no unmixing network; it was trained "
                "for algebraic"
            )
        self._coefficient = _coefficient(bundle, coefficient)
        self._manifest = manifest
        self._vault = vault
        self._template = None
        if has_synthetic_references(manifest):
            self._template = Template.load(bundle.file(TEMPLATE_FILE))
        elif not vault.has_labelled_references:
            raise InvalidVault(
                f"references: {manifest.name} has no synthetic ones: make a vault with: "
                "veilseg site init --references DATASET"
            )
        self._unmixer = load(bundle.file(UNMIXER_FILE)) if unmixing == "learned" else None

    def protect(
        self, image: Float32Array, subject: str, mixture: int = 0
    ) -> tuple[Proxy, MixupReceipt]:
        """Mix the image with a reference drawn by the site's key from the image's content.

        The same image in the same vault gives the same proxy to the byte, whatever its file is
        called: a retry teaches the server nothing.

        Parameters
        ----------
        image : ndarray, shape (C, X, Y, Z), float32
            Prepared, in [0, 1], exactly 0 where empty.
        subject : str
            Labelled references of this patient are not used.
        mixture : int
            Which of several mixtures of this image, each with a reference of its own.

        Returns
        -------
        Proxy, MixupReceipt

        Raises
        ------
        GeometryMismatch
            If the image has other channels than the bundle.
        InvalidVault
            If the vault has labelled references, but none of another patient.

        Leaks
        -----
        To the server: the mixture, in which much of the patient can be seen. Different proxies
        of one patient can be averaged: under ideal conditions K of them at a = ½ leave at most
        1/(K + 1) of the patient's variance hidden. Whoever knows the reference has the image; a
        trained network separates a good part of it (see docs/privacy.md).

        References
        ----------
        Kim et al., IPMI 2023, arXiv:2305.13756.
        """
        require_channels(image, self._manifest)
        rng = secret_generator(
            self._vault, self._manifest, self._coefficient, content_of(image), mixture
        )
        mixed, mixed_reference = self.mixed(image, subject, rng)
        return Proxy(mixed), MixupReceipt(mixed_reference)

    def mixed(
        self, image: Float32Array, subject: str, rng: Generator
    ) -> tuple[Float32Array, Reference]:
        """Mixture and reference, drawn by the bundle's law; ``rng`` has to be secret."""
        base = self._vault.draw_reference(rng, subject)
        shape = image.shape[1:]
        if base is not None:
            reference = labelled_reference(Reference(base.image, base.labels), shape, rng)
        else:
            assert self._template is not None  # without one, the vault had to have references
            reference = synthetic_reference(self._template, shape, rng)
        return mix(image, reference, self._coefficient, rng)

    @property
    def coefficient(self) -> float:
        """Weight of the patient image."""
        return self._coefficient

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:
        """Revert the mixture of segmentation maps.

        Parameters
        ----------
        answer : Answer
            The server's segmentation mixture, shape (K, X, Y, Z).
        receipt : MixupReceipt
            Of the proxy that was answered.

        Returns
        -------
        ndarray, shape (K, X, Y, Z), float32
            Class probabilities of the patient.

        Raises
        ------
        GeometryMismatch
            If answer and receipt do not fit together.

        Leaks
        -----
        Nothing: it runs at the site. But the server has the answer too, and at a = ½ it shows
        the union of the patient's and the reference's mask.

        References
        ----------
        Kim et al., IPMI 2023, arXiv:2305.13756.
        """
        if not isinstance(receipt, MixupReceipt):
            raise TypeError(f"a MixupReceipt is needed, not a {type(receipt).__name__}")
        reference = receipt.reference
        classes = len(self._manifest.labels)
        expected = (classes, *reference.labels.shape)
        if answer.array.shape != expected:
            raise GeometryMismatch(f"answer of shape {answer.array.shape}; expected {expected}")
        unmixer = self._unmixer
        if unmixer is None:
            labels = _one_hot(reference.labels, classes)
            return unmix_algebraically(answer.array, labels, self._coefficient)
        coefficient = np.array([self._coefficient], dtype=np.float32)

        def unmixed(parts: tuple[Float32Array, ...]) -> Float32Array:
            answered, labels, image = parts
            probabilities: Float32Array = unmixer(
                answer=answered[None],
                reference_labels=_one_hot(labels[0], classes)[None],
                reference=image[None],
                coefficient=coefficient,
            )[0]
            return probabilities

        tile, overlap = self._manifest.tile_shape, self._manifest.tile_overlap
        # Each by itself: one array of all would be a copy of all.
        held = (answer.array, reference.labels[None].astype(np.float32), reference.image)
        parts = zip(*(tiles(one, tile, overlap) for one in held), strict=True)
        return blended(map(unmixed, parts), reference.labels.shape, tile, overlap)


def _one_hot(labels: NDArray[np.number], classes: int) -> Float32Array:
    """(X, Y, Z) to (K, X, Y, Z)."""
    maps = np.empty((classes, *labels.shape), dtype=np.float32)
    for value, plane in enumerate(maps):
        np.equal(labels, value, out=plane)
    return maps


def _coefficient(bundle: ClientBundle, wanted: float | None) -> float:
    settings = bundle.manifest.settings
    default = settings.get("coefficient")
    if not isinstance(default, float) or not 0 < default < 1:
        raise BundleIntegrity(
            f"{bundle.folder / 'manifest.json'}: settings: no mixing coefficient in (0, 1)"
        )
    if wanted is None:
        return default
    low, high = settings.get("coefficient_range", (default, default))
    if not low <= wanted <= high:
        raise InvalidInput(
            f"--coefficient {wanted:g}: {bundle.manifest.name} was trained for {low:g}…{high:g}"
        )
    return wanted
