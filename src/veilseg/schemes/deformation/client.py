"""Client half of ``deformation``: a secret smooth warp per subject, undone on what comes back.

NumPy and ONNX Runtime only. A comparator (method.md §4), after Kim et al. 2021, arXiv:2011.12835.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from veilseg.bundle import ClientBundle
from veilseg.errors import GeometryMismatch
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.runtime import OnnxModel
from veilseg.schemes.deformation.field import code_shape, deformed, flow, inverse_flow
from veilseg.schemes.secret import secret_generator, strength_of
from veilseg.vault.vault import Vault

GENERATOR_FILE = "generator.onnx"


@dataclass(frozen=True, repr=False)
class DeformationReceipt(Receipt):
    """The subject's deformation of this image. Never leaves the site."""

    velocity: Float32Array
    coordinates: Float32Array


class Deformer:
    """The bundle's generator of deformations, by any randomness.

    Parameters
    ----------
    bundle : ClientBundle

    Raises
    ------
    BundleIntegrity
        If the bundle has no usable generator.
    """

    def __init__(self, bundle: ClientBundle) -> None:
        self._code = code_shape(bundle.manifest.spatial_dims)
        # Always ONNX Runtime's: what leaves must not depend on what else is installed.
        self._generator = OnnxModel(bundle.file(GENERATOR_FILE))

    def velocity(self, rng: Generator) -> Float32Array:
        """Of a deformation, (D, *nodes), as a share of the image's side."""
        code = rng.standard_normal(self._code, dtype=np.float32)
        found: Float32Array = self._generator(code=code[None])[0]
        return found


class DeformationClient:
    """Client half of ``deformation``.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault
        The site's key.

    Raises
    ------
    BundleIntegrity
        If the bundle states no strength, or has no usable generator.
    """

    def __init__(self, bundle: ClientBundle, vault: Vault) -> None:
        self._manifest, self._vault = bundle.manifest, vault
        self._strength = strength_of(bundle)
        self._deformer = Deformer(bundle)

    def protect(
        self, image: Float32Array, subject: str, mixture: int = 0
    ) -> tuple[Proxy, DeformationReceipt]:
        """Deform the image by the subject's field, which the site's key draws.

        The learned generator turns secret numbers into a velocity; its flow is the deformation.

        Parameters
        ----------
        image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
            Prepared, in [0, 1].
        subject : str
            All images of one subject are deformed by one field: a second scan tells nothing new
            of the shape.
        mixture : int
            Which of several fields of this subject.

        Returns
        -------
        Proxy, DeformationReceipt

        Raises
        ------
        GeometryMismatch
            If the image has other channels or axes than the bundle.

        Leaks
        -----
        To the server: every detail of the image, off its place. Intensities, textures, lesions and
        what they are next to are in full view; only shape and size are altered, and smoothly.

        References
        ----------
        Kim et al., 2021, arXiv:2011.12835.
        """
        manifest = self._manifest
        wanted = len(manifest.channels), manifest.spatial_dims
        if (image.shape[0], image.ndim - 1) != wanted:
            raise GeometryMismatch(
                f"image with {image.shape[0]} channels and {image.ndim - 1} axes; the bundle takes "
                f"{wanted[0]} and {wanted[1]}"
            )
        rng = secret_generator(self._vault, manifest, self._strength, subject, mixture)
        velocity = self._deformer.velocity(rng)
        coordinates = flow(velocity, image.shape[1:])
        return Proxy(deformed(image, coordinates)), DeformationReceipt(velocity, coordinates)

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:
        """Undo the deformation on the class probabilities.

        Parameters
        ----------
        answer : Answer
            Class probabilities of the deformed image, shape (K, X, Y, Z) or (K, X, Y).
        receipt : Receipt

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

        Raises
        ------
        GeometryMismatch
            If answer and receipt do not fit together.

        Leaks
        -----
        Nothing: it runs at the site. But the server has the answer, which is the patient's mask
        but for the deformation.
        """
        if not isinstance(receipt, DeformationReceipt):
            raise TypeError(f"a DeformationReceipt is needed, not a {type(receipt).__name__}")
        expected = (len(self._manifest.labels), *receipt.coordinates.shape[1:])
        if answer.array.shape != expected:
            raise GeometryMismatch(f"answer of shape {answer.array.shape}; expected {expected}")
        return deformed(answer.array, inverse_flow(receipt.velocity, receipt.coordinates))
