"""What the halves with a secret have in common: randomness by the site's key, and a strength."""

import hashlib
import math

from numpy.random import Generator

from veilseg.bundle import ClientBundle, ClientManifest
from veilseg.errors import BundleIntegrity
from veilseg.payload import Float32Array
from veilseg.vault.vault import Vault


def content_of(image: Float32Array) -> bytes:
    """SHA-256 of an image's shape and values: what the same image has in common with itself."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def secret_generator(
    vault: Vault, manifest: ClientManifest, setting: float, of: bytes | str, number: int
) -> Generator:
    """The stream that the site's key gives to an image or a subject, for one bundle and setting.

    Parameters
    ----------
    vault : Vault
    manifest : ClientManifest
        Its protection id stands for the preprocessing and the scheme's law as well.
    setting : float
        By which the scheme protects: another one has another stream.
    of : bytes or str
        Content of the image, or the subject.
    number : int
        Which of several proxies. The first has no number: it is the one proxy of whoever does
        not augment.
    """
    further = [str(number)] if number else []
    return vault.generator(manifest.scheme, manifest.protection_id, repr(setting), of, *further)


def strength_of(bundle: ClientBundle) -> float:
    """How strongly a bundle protects, as it was trained.

    Raises
    ------
    BundleIntegrity
        If its manifest has no positive number.
    """
    strength = bundle.manifest.settings.get("strength")
    if not isinstance(strength, float) or not 0 < strength < math.inf:
        raise BundleIntegrity(
            f"{bundle.folder / 'manifest.json'}: settings: no strength above 0 to protect by"
        )
    return strength
