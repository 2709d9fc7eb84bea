"""A server that segments proxies, seen from the site."""

import json
from types import TracebackType
from typing import Final, Self

import httpx
import numpy as np

from veilseg.bundle import ClientManifest, TensorSpec
from veilseg.client.credentials import Credentials
from veilseg.client.transfer import Reply, StillWanted, Transfer
from veilseg.errors import (
    BundleIntegrity,
    GeometryMismatch,
    InvalidAnswer,
    InvalidInput,
    ModelFailed,
    ServerRefused,
)
from veilseg.payload import Float32Array
from veilseg.wire import (
    InferRequest,
    RequestedOutput,
    Tensor,
    WireError,
    decode_answer,
    documents,
    encode_request,
    paths,
)
from veilseg.wire.infer import HEADER_LENGTH
from veilseg.wire.tensors import DTYPES, FloatArray

# Names, shapes and parameters around the numbers; real ones take some hundred bytes.
DOCUMENT_BYTES: Final = 65536
# A server without the binary extension answers with numbers as text: at most this many
# characters for a float32 written as a double, with its separator.
TEXT_BYTES_PER_VALUE: Final = 32
# Where the bundle itself is deployed as a Triton model repository, its folder is the version.
DIRECTORY_VERSION: Final = "1"


class RemoteServer:
    """The network's side of a scheme, on any server of the Open Inference Protocol.

    A context manager and a :class:`~veilseg.client.processor.TileProcessor`. Nothing is sent
    to be segmented before :meth:`check` has passed.

    HTTP proxies and certificates are taken from the environment as httpx does:
    ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT`` or ``https://HOST``, perhaps with a base path.
    manifest : ClientManifest
        Of the bundle whose server half is to answer.
    timeout_s : float
        For connecting and for each silence of the connection.
    retries : int
        Further attempts when the connection or the server fails (502, 503, 504), with growing
        pauses; ``Retry-After`` is honoured up to 30 s. Being told to wait (429) is no attempt:
        up to ten minutes are spent so.
    credentials : Credentials, optional
        Token and certificates.
    transport : httpx.BaseTransport, optional
        In place of the network, for tests.
    still_wanted : callable, optional
        Called now and then while it waits to try again; what it raises ends that.
    more_once_met : int
        Further retries of a server that has answered before: it may be starting anew.

    Attributes
    ----------
    bytes_sent, bytes_received : int
        Bodies of all requests and answers so far, repeated ones included; headers are not.

    Raises
    ------
    InvalidInput
        If the URL or the credentials cannot be used, or the manifest's datatypes are unknown.

    Leaks
    -----
    To the server: each proxy tile, how many there are and when they come, the name and version
    of the model, the site's token and certificate, and the address it connects from. No request
    id, cookie, file name, geometry or subject goes with a tile; retries repeat the same bytes.
    To whoever listens in between: the same over ``http://``; over ``https://`` the server's
    name, sizes and times.
    """

    def __init__(
        self,
        url: str,
        manifest: ClientManifest,
        *,
        timeout_s: float = 60.0,
        retries: int = 4,
        credentials: Credentials | None = None,
        transport: httpx.BaseTransport | None = None,
        still_wanted: StillWanted | None = None,
        more_once_met: int = 0,
    ) -> None:
        for spec in (manifest.proxy, manifest.answer):
            if spec.datatype not in DTYPES:
                raise InvalidInput(f"manifest: datatype {spec.datatype} is not spoken here")
        self._manifest = manifest
        self._transfer = Transfer(
            url, timeout_s, retries, transport, credentials, still_wanted, more_once_met
        )
        self._version: str | None = None

    @property
    def url(self) -> str:
        """Where the server is, without a trailing slash."""
        return self._transfer.url

    @property
    def bytes_sent(self) -> int:
        """Bytes of all request bodies."""
        return self._transfer.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all answer bodies."""
        return self._transfer.bytes_received

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transfer.close()

    def check(self) -> None:
        """Verify that this server hosts the manifest's model and that it is ready.

        Raises
        ------
        ServerUnreachable
            If there is no connection within the retries.
        ServerRefused
            If the model or version is missing, or not ready.
        InvalidAnswer
            If the description is unusable, or the model's tensors are not the manifest's.
        BundleIntegrity
            If the server states the id of another bundle. One that states none is accepted.
        """
        name = self._manifest.name
        version, metadata = self._described()
        if metadata.name != name:
            raise InvalidAnswer(f"{self.url}: describes model {metadata.name!r}, not {name}")
        self._require_same_bundle(metadata.parameters)
        self._require_tensor("input", metadata.inputs, self._manifest.proxy)
        self._require_tensor("output", metadata.outputs, self._manifest.answer)
        ready = self._transfer.get(paths.model_ready(name, version), DOCUMENT_BYTES)
        if ready.status != httpx.codes.OK:
            raise ServerRefused(f"{self.url}: model {name} is not ready: {ready.error_text}")
        self._version = version

    def __call__(self, tile: Float32Array) -> Float32Array:
        """Have one proxy tile processed.

        Parameters
        ----------
        tile : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
            As the manifest's ``proxy``; rounded to its wire datatype.

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

        Raises
        ------
        GeometryMismatch
            If the tile has another shape.
        InvalidInput
            If it holds values that are not finite on the wire.
        ServerUnreachable, ServerRefused, InvalidAnswer, BundleIntegrity
            As :meth:`check`; an answer of another shape, datatype or bundle, or one that is
            not finite, is no answer.

        Leaks
        -----
        To the server: the tile.
        """
        proxy, answer = self._manifest.proxy, self._manifest.answer
        wire_tile = self._on_the_wire(tile)
        if self._version is None:
            self.check()
        request = InferRequest(
            inputs=(Tensor(proxy.name, wire_tile),),
            outputs=(RequestedOutput(answer.name, binary=True),),
        )
        values = int(np.prod(answer.shape[1:]))
        reply = self._transfer.post(
            paths.model_infer(self._manifest.name, self._version),
            encode_request(request),
            DOCUMENT_BYTES + values * TEXT_BYTES_PER_VALUE,
        )
        self._require_ok(reply)
        return self._answer(reply)

    def _on_the_wire(self, tile: Float32Array) -> FloatArray:
        proxy = self._manifest.proxy
        if tile.shape != proxy.shape[1:]:
            raise GeometryMismatch(f"tile: shape {tile.shape} is not {proxy.shape[1:]}")
        with np.errstate(over="ignore"):
            wire_tile: FloatArray = tile[np.newaxis].astype(DTYPES[proxy.datatype])
        if not np.isfinite(wire_tile).all():
            raise InvalidInput(f"tile: holds values that are not finite in {proxy.datatype}")
        return wire_tile

    def _described(self) -> tuple[str, documents.ModelMetadata]:
        """The version to ask for, and what the server says of it."""
        name, version = self._manifest.name, self._manifest.served_version
        reply = self._transfer.get(paths.model(name, version), DOCUMENT_BYTES)
        if reply.status in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
            # Triton knows numbered folders only, and rejects a version like 1.2.0 as malformed.
            unversioned = self._transfer.get(paths.model(name), DOCUMENT_BYTES)
            if unversioned.status == httpx.codes.OK:
                metadata = self._metadata(unversioned)
                if DIRECTORY_VERSION in metadata.versions:
                    return DIRECTORY_VERSION, metadata
            raise ServerRefused(f"{self.url}: no model {name} in version {version}")
        self._require_ok(reply)
        return version, self._metadata(reply)

    def _metadata(self, reply: Reply) -> documents.ModelMetadata:
        try:
            return documents.ModelMetadata.from_json(json.loads(reply.body))
        except (WireError, ValueError, RecursionError) as error:
            raise InvalidAnswer(f"{self.url}: no usable model metadata: {error}") from error

    def _require_ok(self, reply: Reply) -> None:
        name, version = self._manifest.name, self._manifest.served_version
        if reply.status == httpx.codes.NOT_FOUND:
            raise ServerRefused(f"{self.url}: no model {name} in version {version}")
        if reply.status != httpx.codes.OK:
            failed = reply.status == httpx.codes.INTERNAL_SERVER_ERROR
            kind = ModelFailed if failed else ServerRefused
            raise kind(f"{self.url}: {reply.error_text}")

    def _require_same_bundle(self, parameters: dict[str, object]) -> None:
        stated = parameters.get(documents.BUNDLE_ID)
        if stated is not None and stated != self._manifest.bundle_id:
            raise BundleIntegrity(
                f"{self.url}: model {self._manifest.name} is of bundle {str(stated)[:12]!r},"
                f" this site holds {self._manifest.bundle_id[:12]}"
            )

    def _require_tensor(self, role: str, found: tuple[TensorSpec, ...], spec: TensorSpec) -> None:
        lengths = (1, *spec.shape[1:])
        fits = len(found) == 1 and (found[0].name, found[0].datatype) == (spec.name, spec.datatype)
        if not (fits and _takes(found[0].shape, lengths)):
            raise InvalidAnswer(
                f"{self.url}: model {self._manifest.name} has not the {role}"
                f" {spec.name} {spec.datatype} {list(lengths)}"
            )

    def _answer(self, reply: Reply) -> Float32Array:
        spec = self._manifest.answer
        try:
            answer = decode_answer(reply.body, reply.headers.get(HEADER_LENGTH))
        except WireError as error:
            raise InvalidAnswer(f"{self.url}: {error}") from error
        self._require_same_bundle(answer.parameters)
        if [tensor.name for tensor in answer.outputs] != [spec.name]:
            raise InvalidAnswer(f"{self.url}: the answer holds not just the tensor {spec.name}")
        tensor, shape = answer.outputs[0], (1, *spec.shape[1:])
        if tensor.datatype != spec.datatype or tensor.array.shape != shape:
            raise InvalidAnswer(
                f"{self.url}: the answer is {tensor.datatype} {list(tensor.array.shape)},"
                f" not {spec.datatype} {list(shape)}"
            )
        if not np.isfinite(tensor.array).all():
            raise InvalidAnswer(f"{self.url}: the answer holds NaN or infinity")
        array: Float32Array = tensor.array[0].astype(np.float32)
        return array


def _takes(shape: tuple[int, ...], lengths: tuple[int, ...]) -> bool:
    """Whether a stated shape, in which -1 is any length, admits these lengths."""
    return len(shape) == len(lengths) and all(
        stated in (-1, length) for stated, length in zip(shape, lengths, strict=True)
    )
