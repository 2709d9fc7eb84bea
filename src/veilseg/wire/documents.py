"""The protocol's JSON documents about a server and its models."""

from dataclasses import dataclass, field
from typing import Any, Final

from veilseg.bundle import TensorSpec
from veilseg.wire.errors import WireError
from veilseg.wire.tensors import read_name, read_parameters

EXTENSIONS: Final = ("binary_tensor_data", "model_repository")
# Parameters by which our server tells which bundle answers and how it computes.
BUNDLE_ID: Final = "bundle_id"
PRECISION: Final = "precision"
MAX_BATCH: Final = "max_batch"


@dataclass(frozen=True)
class ModelMetadata:
    """What a server tells of a model.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        -1 in a shape means any length.
    parameters : dict
        Ours states ``bundle_id``, ``precision`` and ``max_batch``; other servers state
        other things or nothing.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document, ready for ``json.dumps``."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [_spec_to_json(spec) for spec in self.inputs],
            "outputs": [_spec_to_json(spec) for spec in self.outputs],
            "parameters": self.parameters,
        }

    @classmethod
    def from_json(cls, fields: object) -> "ModelMetadata":
        """Read any conforming server's document.

        Raises
        ------
        WireError
            If a field is missing or of the wrong kind.
        """
        if not isinstance(fields, dict):
            raise WireError("model metadata is not a JSON object")
        versions = fields.get("versions", [])
        if not isinstance(versions, list):
            raise WireError("model metadata: versions is not a list")
        return cls(
            read_name(fields),
            tuple(str(version) for version in versions),
            str(fields.get("platform", "")),
            _specs(fields, "inputs"),
            _specs(fields, "outputs"),
            read_parameters(fields),
        )


def server_metadata(name: str, version: str) -> dict[str, Any]:
    """The document at ``/v2``."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def error(message: str) -> dict[str, str]:
    """How the protocol wraps an error message."""
    return {"error": message}


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _specs(fields: dict[str, Any], key: str) -> tuple[TensorSpec, ...]:
    entries = fields.get(key)
    if not isinstance(entries, list):
        raise WireError(f"model metadata: {key} is not a list")
    specs = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise WireError(f"model metadata: {key} holds something that is no JSON object")
        shape = entry.get("shape")
        # Some servers write lengths as text, as the protocol's gRPC form does for 64 bits.
        try:
            lengths = tuple(int(length) for length in shape or [])
        except (TypeError, ValueError):
            raise WireError(f"model metadata: {key}: a shape holds no integers") from None
        specs.append(TensorSpec(read_name(entry), str(entry.get("datatype")), lengths))
    return tuple(specs)
