"""Client half of ``privacy_net``: an encoder at the site; the answer is the segmentation.

NumPy and ONNX Runtime only. A comparator (method.md §4), after Kim et al. 2021, arXiv:1909.04087.
"""

from collections.abc import Iterable, Iterator

from veilseg.bundle import ClientBundle
from veilseg.errors import WrongUsage
from veilseg.imaging.tiling import sliding_window
from veilseg.payload import Float32Array, Proxy
from veilseg.runtime import OnnxModel
from veilseg.scheme import require_channels
from veilseg.schemes.bare_answers import BareAnswers, NothingKept

ENCODER_FILE = "encoder.onnx"


class PrivacyNetClient(BareAnswers):
    """Client half of ``privacy_net``.

    Parameters
    ----------
    bundle : ClientBundle

    Raises
    ------
    BundleIntegrity
        If the bundle has no usable encoder.
    """

    def __init__(self, bundle: ClientBundle) -> None:
        self._manifest = bundle.manifest
        # Always ONNX Runtime's: what leaves must not depend on what else is installed.
        self._encoder = OnnxModel(bundle.file(ENCODER_FILE))

    def protect(
        self,
        image: Float32Array,
        subject: str,  # noqa: ARG002 - one interface
        mixture: int = 0,
    ) -> tuple[Proxy, NothingKept]:
        """Encode the image; tile by tile where it is larger than one, blended where they overlap.

        Parameters
        ----------
        image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
            Prepared, in [0, 1].
        subject : str
            Unused: an image has one encoding, whoever it is of.
        mixture : int
            There is one proxy of an image, number 0.

        Returns
        -------
        Proxy, NothingKept

        Raises
        ------
        WrongUsage
            If another than number 0 is asked for.
        GeometryMismatch
            If the image has other channels or axes than the bundle.

        Leaks
        -----
        To the server: an image in which the training's own discriminator does not recognise people.
        There is no secret: whoever has the encoder (any site), or enough images with their
        encodings, trains a network that undoes it; equal images have equal encodings.

        References
        ----------
        Kim et al., 2021, arXiv:1909.04087.
        """
        if mixture:
            raise WrongUsage("--mixtures: privacy_net mixes nothing: there is nothing to average")
        manifest = self._manifest
        require_channels(image, manifest)

        def encoded(tiles: Iterable[Float32Array]) -> Iterator[Float32Array]:
            return (self._encoder(image=tile[None])[0] for tile in tiles)

        whole = sliding_window(image, manifest.tile_shape, manifest.tile_overlap, encoded)
        return Proxy(whole), NothingKept()
