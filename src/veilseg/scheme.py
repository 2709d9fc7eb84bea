"""What every scheme's client half can do. The server half is a plain ONNX model."""

from typing import Protocol

from veilseg.bundle import ClientManifest
from veilseg.errors import GeometryMismatch
from veilseg.payload import Answer, Float32Array, Proxy, Receipt


class ClientHalf(Protocol):
    """protect → (server) → recover, on the bundle's grid."""

    def protect(self, image: Float32Array, subject: str, mixture: int = 0) -> tuple[Proxy, Receipt]:
        """Turn a prepared image (C, X, Y, Z) in [0, 1] into what the server may see.

        ``mixture`` numbers the proxies of one image in test-time augmentation.
        """
        ...

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:
        """Class probabilities (K, X, Y, Z) of the patient from the server's answer."""
        ...


def require_channels(image: Float32Array, manifest: ClientManifest) -> None:
    """Refuse an image that the bundle is not for.

    Parameters
    ----------
    image : ndarray, shape (C, X, Y, Z) or (C, X, Y)
    manifest : ClientManifest

    Raises
    ------
    GeometryMismatch
        If it has other channels.
    """
    if image.shape[0] != len(manifest.channels):
        raise GeometryMismatch(
            f"image with {image.shape[0]} channels; the bundle takes {len(manifest.channels)}"
        )
