"""What a site gives to a fit of Privacy-SF: tiles and their masks, encoded."""

from numpy.random import Generator

from veilseg.bundle import ClientBundle
from veilseg.contribution import ProtectedPair
from veilseg.datasets.cases import PreparedCase
from veilseg.errors import InvalidShard
from veilseg.payload import WIRE_DTYPE, Float32Array
from veilseg.runtime import OnnxModel
from veilseg.schemes.encoding.client import MASK_ENCODER_FILE, EncodingClient
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.training.examples import Arrays, one_hot


class EncodingPairs:
    """Pairs of encodings.

    Parameters
    ----------
    bundle : ClientBundle
    key : ConsortiumKey or None
        Of the consortium, for a bundle that was trained with one.

    Raises
    ------
    InvalidShard
        If the bundle cannot encode masks.
    BundleIntegrity, WrongUsage, WrongKey
        As :class:`~veilseg.schemes.encoding.client.EncodingClient`.
    """

    def __init__(self, bundle: ClientBundle, key: ConsortiumKey | None) -> None:
        self._client = EncodingClient(bundle, key)
        self._classes = len(bundle.manifest.labels)
        if MASK_ENCODER_FILE not in bundle.manifest.files:
            raise InvalidShard(f"{bundle.folder}: no {MASK_ENCODER_FILE}: train the bundle anew")
        self._mask_encoder = OnnxModel(bundle.file(MASK_ENCODER_FILE))

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - one interface
        """Image and mask of a whole case; what is sent is made of a tile of it."""
        return {"image": case.image, "target": one_hot(case.labels, self._classes)}

    def pair(self, tile: dict[str, Float32Array]) -> ProtectedPair:
        """What leaves of one tile.

        Leaks
        -----
        To the server: what encoders keep of image and mask, and several views of each patient.
        Whoever has a client half turns them back (docs/encoding.md).
        """
        image = self._client.encoded(tile["image"])
        mask = self.mask(tile["target"])
        return ProtectedPair(*(one.astype(WIRE_DTYPE) for one in (image, mask)))

    def mask(self, target: Float32Array) -> Float32Array:
        """The encoded mask of one tile (K, *tile), as it leaves: a sequence (values,)."""
        return self._client.keyed_mask(self._mask_encoder(mask=target[None])[0])
