"""Client half of ``noise``: secret noise on the image; the answer is the segmentation.

NumPy only. A comparator (method.md §4), not a protection to rely on.
"""

from veilseg.bundle import ClientBundle
from veilseg.payload import Float32Array, Proxy
from veilseg.scheme import require_channels
from veilseg.schemes.bare_answers import BareAnswers, NothingKept
from veilseg.schemes.noise.adding import with_noise
from veilseg.schemes.secret import content_of, secret_generator, strength_of
from veilseg.vault.vault import Vault


class NoiseClient(BareAnswers):
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
    ) -> tuple[Proxy, NothingKept]:
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
        Proxy, NothingKept

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
        require_channels(image, self._manifest)
        rng = secret_generator(
            self._vault, self._manifest, self._strength, content_of(image), mixture
        )
        return Proxy(with_noise(image, self._strength, rng)), NothingKept()
