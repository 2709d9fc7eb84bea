"""Client half of Privacy-SF: encode tiles, decode what comes back.

NumPy and ONNX Runtime only (method.md §2, §3).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilseg.bundle import ClientBundle
from veilseg.errors import BundleIntegrity, InvalidAnswer, WrongKey, WrongUsage
from veilseg.imaging.tiling import blended, tile_count, tiles
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.runtime import Load, OnnxModel
from veilseg.schemes.encoding.key import ConsortiumKey, Transform
from veilseg.schemes.encoding.sequence import Layout

ENCODER_FILE, DECODER_FILE = "image_encoder.onnx", "mask_decoder.onnx"
# Outputs of the encoder that stay at the site: at half, quarter and eighth of the resolution.
FEATURES = ("half", "quarter", "eighth")
# For contributing to a fit; segmenting does without.
MASK_ENCODER_FILE = "mask_encoder.onnx"
# An image of nobody, what the bundle's encoder makes of it, and its decoder of that image and an
# answer of nothing but zeros; without any key.
SELFTEST_FILE = "selftest.npz"
SELFTEST_STRIDE = 8  # of the decoder's probabilities, which would be large
# Of the largest value: other processors round otherwise, other encoders do not come near.
LARGEST_DEVIATION = 0.02
# On average, of probabilities.
LARGEST_MEAN_DEVIATION = 0.02


# In sixteen bits: of each voxel of a tile there are two values in 3D, and six in 2D.
Features = list[NDArray[np.float16]]


@dataclass(frozen=True, repr=False)
class EncodingReceipt(Receipt):
    """What the decoder sees beside the answer.

    Attributes
    ----------
    image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
    features : list
        Of each tile, as :data:`FEATURES`.
    """

    image: Float32Array
    features: list[Features]


class EncodingClient:
    """Client half of ``encoding``.

    Parameters
    ----------
    bundle : ClientBundle
    key : ConsortiumKey or None
        Of the consortium, for a bundle that was trained with one.
    load : callable
        Opens the site's decoder. The image encoder is always ONNX Runtime's: what leaves must not
        depend on what else is installed, or one image would have several encodings.

    Raises
    ------
    BundleIntegrity
        If the bundle has no usable encoder, decoder or self-test.
    WrongUsage
        If a key is missing, or given to a bundle without one.
    WrongKey
        If the bundle was trained with another key.
    """

    def __init__(
        self, bundle: ClientBundle, key: ConsortiumKey | None = None, load: Load = OnnxModel
    ) -> None:
        self._manifest = manifest = bundle.manifest
        wanted = manifest.settings.get("key")
        if wanted is None and key is not None:
            raise WrongUsage(f"--key: {manifest.name} was trained without a key")
        if wanted is not None and key is None:
            raise WrongUsage(f"--key: {manifest.name} was trained with a consortium key: give it")
        if key is not None and key.fingerprint() != wanted:
            raise WrongKey(f"--key: {manifest.name} was trained with another consortium key")
        try:
            image, mask = (
                Layout.from_json(manifest.settings[name])
                for name in ("image_levels", "mask_levels")
            )
        except (KeyError, TypeError, ValueError) as error:
            where = bundle.folder / "manifest.json"
            raise BundleIntegrity(f"{where}: settings: no layout of encodings") from error
        self._answer_values = mask.values
        self._of_images: Transform | None = None
        self._of_masks: Transform | None = None
        if key is not None:
            self._of_images, self._of_masks = (
                key.transform(layout, what) for layout, what in ((image, "image"), (mask, "mask"))
            )
        self._encoder = OnnxModel(bundle.file(ENCODER_FILE))
        self._decoder = load(bundle.file(DECODER_FILE))
        self._require_selftest(bundle)

    def protect(
        self,
        image: Float32Array,
        subject: str,  # noqa: ARG002 - one interface
        mixture: int = 0,
    ) -> tuple[Proxy, EncodingReceipt]:
        """Encode the image tile by tile.

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
        Proxy, EncodingReceipt
            The proxy is of tiles, (T, values).

        Raises
        ------
        WrongUsage
            If another than number 0 is asked for.

        Leaks
        -----
        To the server: what an encoder for segmentation keeps of the image. Whoever has the encoder
        (any site), or enough images with their encodings, trains a network that undoes it; equal
        images have equal encodings, and similar ones similar encodings.
        """
        if mixture:
            raise WrongUsage("--mixtures: encoding mixes nothing, so there is nothing to average")
        manifest = self._manifest
        found, kept = [], []
        for tile in tiles(image, manifest.tile_shape, manifest.tile_overlap):
            sequence, features = self._seen(tile)
            found.append(self._keyed(sequence))
            kept.append(features)
        return Proxy(np.stack(found), tiled=True), EncodingReceipt(image, kept)

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:
        """Decode the answers and put them together.

        Parameters
        ----------
        answer : Answer
            Encoded masks of all tiles, (T, values).
        receipt : Receipt

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

        Raises
        ------
        InvalidAnswer
            If there are more or fewer answers than tiles.

        Leaks
        -----
        Nothing: it runs at the site.
        """
        assert isinstance(receipt, EncodingReceipt)
        tile, overlap = self._manifest.tile_shape, self._manifest.tile_overlap
        shape = receipt.image.shape[1:]
        wanted = tile_count(shape, tile, overlap)
        if len(answer.array) != wanted:
            raise InvalidAnswer(f"{len(answer.array)} answers to {wanted} tiles")
        of_tiles = tiles(receipt.image, tile, overlap), receipt.features
        found = map(self._decoded, answer.array, *of_tiles)
        return blended(found, shape, tile, overlap)

    def encoded(self, tile: Float32Array) -> Float32Array:
        """What leaves of one tile (C, *tile): a sequence (values,)."""
        return self._keyed(self._seen(tile)[0])

    def unkeyed(self, sequence: Float32Array) -> Float32Array:
        """What an encoded image was before the key."""
        return sequence if self._of_images is None else self._of_images.revert(sequence)

    def decoded(self, sequence: Float32Array, image: Float32Array) -> Float32Array:
        """Probabilities of one tile (K, *tile) from its encoded mask (values,) and itself."""
        return self._decoded(sequence, image, self._seen(image)[1])

    def keyed_mask(self, sequence: Float32Array) -> Float32Array:
        """What leaves of a mask's encoding, for a fit."""
        return sequence if self._of_masks is None else self._of_masks.apply(sequence)

    def _keyed(self, sequence: Float32Array) -> Float32Array:
        return sequence if self._of_images is None else self._of_images.apply(sequence)

    def _seen(self, tile: Float32Array) -> tuple[Float32Array, Features]:
        """The encoding of one tile without the key, and what stays."""
        encoded, *features = self._encoder.all(image=tile[None])
        return encoded[0], [one[0].astype(np.float16) for one in features]

    def _decoded(
        self, sequence: Float32Array, image: Float32Array, features: Features
    ) -> Float32Array:
        plain = sequence if self._of_masks is None else self._of_masks.revert(sequence)
        return self._decoded_plain(plain, image, features)

    def _decoded_plain(
        self, sequence: Float32Array, image: Float32Array, features: Features
    ) -> Float32Array:
        kept = {
            name: one[None].astype(np.float32) for name, one in zip(FEATURES, features, strict=True)
        }
        found: Float32Array = self._decoder(encoded=sequence[None], image=image[None], **kept)[0]
        return found

    def _require_selftest(self, bundle: ClientBundle) -> None:
        """Encoder and decoder have to make of a known image what they made in training.

        The key is known by its fingerprint alone: image and keyed encoding would give it away.
        """
        path = bundle.file(SELFTEST_FILE)
        try:
            with np.load(path, allow_pickle=False) as stored:
                image, expected, recovered = (
                    stored[name].astype(np.float32) for name in ("image", "encoded", "recovered")
                )
        except (OSError, ValueError, KeyError) as error:
            raise BundleIntegrity(f"{path}: not a self-test: {error}") from error
        found, features = self._seen(image)
        if len(features) != len(FEATURES):
            encoder = bundle.file(ENCODER_FILE)
            raise BundleIntegrity(f"{encoder}: of another version: train the bundle anew")
        allowed = LARGEST_DEVIATION * np.abs(expected).max(initial=0)
        if found.shape != expected.shape or not np.abs(found - expected).max() <= allowed:
            raise BundleIntegrity(f"{path}: this encoder gives another encoding: self-test")
        nothing = np.zeros(self._answer_values, dtype=np.float32)
        probabilities = strided(self._decoded_plain(nothing, image, features))
        apart = np.abs(probabilities - recovered) if probabilities.shape == recovered.shape else 1
        if not np.mean(apart) <= LARGEST_MEAN_DEVIATION:
            raise BundleIntegrity(f"{path}: this decoder gives another mask: self-test")


def strided(probabilities: Float32Array) -> Float32Array:
    """Those of a self-test: every so many voxels along each axis."""
    steps = slice(None, None, SELFTEST_STRIDE)
    return probabilities[(slice(None), *[steps] * (probabilities.ndim - 1))]
