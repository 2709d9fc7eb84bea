"""Both halves at the site: the server half of a bundle, run here."""

from veilseg.bundle import PROXY_TENSOR, ServerBundle
from veilseg.payload import Float32Array
from veilseg.runtime import Load, OnnxModel


class LocalServer:
    """A :class:`~veilseg.client.processor.TileProcessor` in this process; nothing leaves."""

    def __init__(self, bundle: ServerBundle, load: Load = OnnxModel) -> None:
        self._model = load(bundle.model_file)

    def __call__(self, tile: Float32Array) -> Float32Array:
        """Process one tile (C, X, Y, Z)."""
        answer: Float32Array = self._model(**{PROXY_TENSOR: tile[None]})[0]
        return answer
