"""Client half of ``noise``: secret noise on the image; the answer is the segmentation.

NumPy only. A comparator (method.md §4), not a protection to rely on.
"""

from veilseg.bundle import ClientBundle
from veilseg.errors import GeometryMismatch
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.schemes.noise.adding import with_noise
from veilseg.schemes.secret import content_of, secret_generator, strength_of
from veilseg.vault.vault import Vault


class NoiseReceipt(Receipt):
    """Nothing has to be kept: the answer needs no recovering."""


class NoiseClient:
    """Client half of ``noise``.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault
        The site's key.

    Raises
    ------
    BundleIntegrity
        If the bundle states no strength.
    """

    def __init__(self, bundle: ClientBundle, vault: Vault) -> None:
        self._manifest, self._vault = bundle.manifest, vault
        self._strength = strength_of(bundle)

    def protect(
        self,
        image: Float32Array,
        subject: str,  # noqa: ARG002 - one interface
        mixture: int = 0,
    ) -> tuple[Proxy, NoiseReceipt]:
        """Add noise drawn by the site's key from the image's content.

        The same image in the same vault gives the same proxy to the byte: a retry teaches the
        server nothing.

        Parameters
        ----------
        image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
            Prepared, in [0, 1].
        subject : str
            Unused: noise is of an image.
        mixture : int
            Which of several proxies of this image, each with noise of its own.

        Returns
        -------
        Proxy, NoiseReceipt

        Raises
        ------
        GeometryMismatch
            If the image has other channels than the bundle.

        Leaks
        -----
        To the server: the image under noise. The best linear attacker leaves σ² / (s² + σ²) of
        the variance of a pattern of standard deviation s hidden, and σ² / (K·s² + σ²) after K
        proxies: coarse anatomy is in full view. A trained network sees more.
        """
        if image.shape[0] != len(self._manifest.channels):
            raise GeometryMismatch(
                f"image with {image.shape[0]} channels; the bundle takes "
                f"{len(self._manifest.channels)}"
            )
        rng = secret_generator(
            self._vault, self._manifest, self._strength, content_of(image), mixture
        )
        return Proxy(with_noise(image, self._strength, rng)), NoiseReceipt()

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:  # noqa: ARG002 - one interface
        """The answer is the segmentation.

        Parameters
        ----------
        answer : Answer
            Class probabilities, shape (K, X, Y, Z) or (K, X, Y).
        receipt : Receipt
            Unused.

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

        Leaks
        -----
        The server knows the segmentation as well as the site does.
        """
        return answer.array
