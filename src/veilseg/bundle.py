"""A trained scheme on disk: two halves that travel separately, each pinned by SHA-256.

``BUNDLE/client`` is what a site needs, ``BUNDLE/server`` what a provider needs. Either
verifies alone: a half's digest covers its manifest and its files, and the digests of both
give the ``bundle_id`` that both halves carry. Hashes detect damage and mix-ups; whoever
wants to know *who* made a bundle compares the ``bundle_id`` with a published one.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from veilseg.digests import (
    MANIFEST_FILE,
    digests_of_files,
    half_digest,
    pair_id,
    sha256_of,
    write_manifest,
)
from veilseg.errors import BundleIntegrity, InvalidInput

FORMAT_VERSION = 1
Role = Literal["client", "server"]

# Names on the wire, the same for every scheme (Open Inference Protocol tensors).
PROXY_TENSOR = "proxy"
ANSWER_TENSOR = "answer"


@dataclass(frozen=True)
class Label:
    """One class: the integer in label maps, its name and, where known, its code.

    A code is what a DICOM segmentation says of it: ``value``, ``scheme`` and ``meaning``, for
    example ``5366008``, ``SCT`` (SNOMED CT) and ``Hippocampus``.
    """

    value: int
    name: str
    code: dict[str, str] | None = None


@dataclass(frozen=True)
class TensorSpec:
    """A tensor on the wire. ``shape`` has a leading batch axis; -1 there means any."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class IntensityRule:
    """How raw intensities become [0, 1]; see ``imaging.preprocessing``."""

    rule: Literal["percentile", "window", "as-is"]
    lower: float
    upper: float


@dataclass(frozen=True)
class Expectation:
    """What training images looked like: an image far from it draws a warning.

    Attributes
    ----------
    background_fraction : (low, high)
        Share of voxels that are exactly zero before cropping.
    extent_mm : (low, high)
        Largest side of the non-zero region; in pixels where that is the bundle's unit.
    spacing_mm : (finest, coarsest)
        Voxel size over all axes and cases.
    histogram : tuple of float
        Mean histogram of preprocessed non-zero voxels in equal bins of [0, 1].
    histogram_distance : float
        Largest earth mover's distance of a training image to that mean.
    """

    background_fraction: tuple[float, float]
    extent_mm: tuple[float, float]
    spacing_mm: tuple[float, float]
    histogram: tuple[float, ...]
    histogram_distance: float


@dataclass(frozen=True)
class ClientManifest:
    """Everything a site has to know of a bundle. See design.md for the fields."""

    name: str
    version: str
    scheme: str
    labels: tuple[Label, ...]
    spatial_dims: int
    channels: tuple[str, ...]
    spacing_mm: tuple[float, ...]
    tile_shape: tuple[int, ...]
    tile_overlap: float
    intensity: IntensityRule
    expectation: Expectation
    proxy: TensorSpec
    answer: TensorSpec
    settings: dict[str, Any]
    licence: str
    provenance: dict[str, Any]
    # What spacing_mm counts: "pixel" for a bundle of images without a size, such as PNG.
    unit: Literal["mm", "pixel"] = "mm"
    metrics: dict[str, float | None] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    peer_digest: str = ""
    # Of the server half; empty: the same as this half's.
    peer_version: str = ""
    bundle_id: str = ""
    # Of the pair that was trained together, where the server half is a later one.
    first_bundle_id: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def served_version(self) -> str:
        """Of the server half."""
        return self.peer_version or self.version

    @property
    def protection_id(self) -> str:
        """What vaults and proxies belong to: the same whichever server half answers."""
        return self.first_bundle_id or self.bundle_id

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Build from parsed JSON; a missing or unknown field raises TypeError."""
        fields = dict(fields)
        fields["labels"] = tuple(Label(**label) for label in fields["labels"])
        fields["intensity"] = IntensityRule(**fields["intensity"])
        fields["expectation"] = _expectation_from_json(fields["expectation"])
        for tensor in ("proxy", "answer"):
            fields[tensor] = _tensor_from_json(fields[tensor])
        for sequence in ("channels", "spacing_mm", "tile_shape"):
            fields[sequence] = tuple(fields[sequence])
        return cls(**fields)


@dataclass(frozen=True)
class ServerManifest:
    """Everything a provider has to know of a bundle, and nothing that helps to recover."""

    name: str
    version: str
    proxy: TensorSpec
    answer: TensorSpec
    # What a provider needs to fit the network anew, to protected pairs of sites; None: nothing.
    fitting: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    peer_digest: str = ""
    bundle_id: str = ""
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Build from parsed JSON; a missing or unknown field raises TypeError."""
        fields = dict(fields)
        for tensor in ("proxy", "answer"):
            fields[tensor] = _tensor_from_json(fields[tensor])
        return cls(**fields)


def _expectation_from_json(fields: dict[str, Any]) -> Expectation:
    return Expectation(
        tuple(fields["background_fraction"]),
        tuple(fields["extent_mm"]),
        tuple(fields["spacing_mm"]),
        tuple(fields["histogram"]),
        fields["histogram_distance"],
    )


def _tensor_from_json(fields: dict[str, Any]) -> TensorSpec:
    return TensorSpec(fields["name"], fields["datatype"], tuple(fields["shape"]))


@dataclass(frozen=True)
class ClientBundle:
    """A verified client half."""

    folder: Path
    manifest: ClientManifest

    def file(self, name: str) -> Path:
        """Path of a pinned file of this half."""
        return _pinned(self.folder, self.manifest.files, name)


@dataclass(frozen=True)
class ServerBundle:
    """A verified server half, laid out as a Triton model repository."""

    folder: Path
    manifest: ServerManifest

    @property
    def model_file(self) -> Path:
        """The ONNX model that maps proxy to answer."""
        return _pinned(self.folder, self.manifest.files, f"{self.manifest.name}/1/model.onnx")

    @property
    def selftest_file(self) -> Path:
        """An ``.npz`` with one ``proxy`` tile and its expected ``answer``."""
        return _pinned(self.folder, self.manifest.files, "selftest/tile.npz")


def _pinned(folder: Path, files: dict[str, str], name: str) -> Path:
    if name not in files:
        raise BundleIntegrity(f"{folder / MANIFEST_FILE}: files: {name} is not listed")
    return folder / name


def open_client_half(bundle: Path) -> ClientBundle:
    """Verify ``BUNDLE/client`` and read its manifest.

    Raises
    ------
    InvalidInput
        If there is no such half.
    BundleIntegrity
        If the format is newer, a file differs from its hash, or the manifest was changed.
    """
    folder, fields = _verified(bundle, "client")
    return ClientBundle(folder, _parsed(ClientManifest, folder, fields))


def open_server_half(bundle: Path) -> ServerBundle:
    """Verify ``BUNDLE/server`` and read its manifest. Raises as :func:`open_client_half`."""
    folder, fields = _verified(bundle, "server")
    return ServerBundle(folder, _parsed(ServerManifest, folder, fields))


def seal(bundle: Path, client: ClientManifest, server: ServerManifest) -> str:
    """Hash the files of both halves, write both manifests and return the bundle id.

    Parameters
    ----------
    bundle : Path
        Folder whose ``client`` and ``server`` folders hold the files already.
    client, server : ClientManifest, ServerManifest
        ``files``, ``peer_digest`` and ``bundle_id`` are filled in here.
    """
    halves: dict[Role, dict[str, Any]] = {"client": asdict(client), "server": asdict(server)}
    for role, fields in halves.items():
        fields["files"] = digests_of_files(bundle / role)
    digests = {role: half_digest(fields) for role, fields in halves.items()}
    bundle_id = pair_id(digests["client"], digests["server"])
    for role, fields in halves.items():
        fields["peer_digest"] = digests["server" if role == "client" else "client"]
        fields["bundle_id"] = bundle_id
        write_manifest(bundle / role, fields)
    return bundle_id


def _verified(bundle: Path, role: Role) -> tuple[Path, dict[str, Any]]:
    folder = bundle / role
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise InvalidInput(f"{bundle}: no {role} half: {role}/manifest.json is missing")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format_version"]
        files = dict(fields["files"])
        peer_digest, bundle_id = fields["peer_digest"], fields["bundle_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleIntegrity(f"{path}: not a bundle manifest: {error}") from error
    if version != FORMAT_VERSION:
        raise BundleIntegrity(
            f"{path}: format_version: {version} is not the {FORMAT_VERSION} this version reads"
            " (a newer Veilseg may have written it)"
        )
    own = half_digest(fields)
    pair = (own, peer_digest) if role == "client" else (peer_digest, own)
    if pair_id(*pair) != bundle_id:
        raise BundleIntegrity(f"{path}: bundle_id: the manifest was changed after it was sealed")
    for name, expected in files.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BundleIntegrity(f"{path}: files: {name} lies outside the bundle")
        if not file.is_file():
            raise BundleIntegrity(f"{file}: missing, though the manifest lists it")
        if sha256_of(file) != expected:
            raise BundleIntegrity(f"{file}: SHA-256 differs from the manifest: altered or damaged")
    return folder, fields


Manifest = TypeVar("Manifest", ClientManifest, ServerManifest)


def _parsed(kind: type[Manifest], folder: Path, fields: dict[str, Any]) -> Manifest:
    try:
        return kind.from_json(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleIntegrity(f"{folder / MANIFEST_FILE}: {error}") from error
