"""One tensor: an array on one side, a JSON entry and perhaps raw bytes on the other."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from veilseg.wire.errors import WireError

FloatArray = NDArray[np.floating[Any]]

# What images and probability maps need. The protocol's other datatypes are known by name
# only, so that "not supported here" and "no such datatype" are different answers.
DTYPES: Final[dict[str, np.dtype[Any]]] = {"FP16": np.dtype("<f2"), "FP32": np.dtype("<f4")}
OTHER_DATATYPES: Final = frozenset({"BOOL", "BYTES", "BF16", "FP64"}) | frozenset(
    f"{sign}{bits}" for sign in ("INT", "UINT") for bits in (8, 16, 32, 64)
)

# Batch, channel and three spatial axes make five; more than eight is no image.
MAX_AXES: Final = 8
# No real tile comes near; sizes beyond it would overflow 64-bit byte counts elsewhere.
MAX_ELEMENTS: Final = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named array of a datatype the protocol carries.

    Attributes
    ----------
    name : str
    array : ndarray, float16 or float32
        Decoded arrays may be read-only views into the message.
    """

    name: str
    array: FloatArray

    @property
    def datatype(self) -> str:
        """The protocol's name of the array's dtype.

        Raises
        ------
        WireError
            If the dtype is neither float16 nor float32.
        """
        return datatype_of(self.array.dtype)

    def raw(self) -> bytes:
        """Little-endian row-major bytes."""
        return np.ascontiguousarray(self.array, dtype=DTYPES[self.datatype]).tobytes()


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a NumPy dtype. Raises :class:`WireError` if it has none here."""
    for datatype, known in DTYPES.items():
        if dtype.newbyteorder("<") == known:
            return datatype
    raise WireError(f"dtype {dtype}: only float16 and float32 go over the wire")


@dataclass(frozen=True)
class Declaration:
    """What the JSON part says of a tensor, checked for sense but not against any data."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any]
    data: list[Any] | None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def binary_size(self) -> int | None:
        """Bytes the tensor takes after the JSON part; None if its data stand in the JSON.

        Raises
        ------
        WireError
            If the data stand in both places or neither, in shared memory, or the declared
            size is not what shape and datatype make.
        """
        for parameter in self.parameters:
            if parameter.startswith("shared_memory"):
                raise WireError(f"tensor {brief(self.name)}: shared memory is not supported")
        declared = self.parameters.get("binary_data_size")
        if (declared is None) == (self.data is None):
            raise WireError(
                f"tensor {brief(self.name)}: give either data or parameters.binary_data_size"
            )
        if declared is None:
            return None
        expected = self.size * DTYPES[self.datatype].itemsize
        if type(declared) is not int or declared != expected:
            raise WireError(
                f"tensor {brief(self.name)}: binary_data_size is not the {expected} bytes that"
                f" shape {list(self.shape)} of {self.datatype} takes"
            )
        return expected


def read_declaration(entry: object) -> Declaration:
    """Check one entry of ``inputs`` or ``outputs``.

    Parameters
    ----------
    entry : object
        Parsed JSON.

    Raises
    ------
    WireError
        If a field is missing or of the wrong kind, the datatype is unknown or not
        supported, or the shape is no shape.
    """
    if not isinstance(entry, dict):
        raise WireError("a tensor is described by a JSON object")
    name = read_name(entry)
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        known = isinstance(datatype, str) and datatype in OTHER_DATATYPES
        reason = "is not supported here" if known else "is no datatype of the protocol"
        raise WireError(
            f"tensor {brief(name)}: datatype {brief(datatype)} {reason} (use FP16 or FP32)"
        )
    data = entry.get("data")
    if data is not None and not isinstance(data, list):
        raise WireError(f"tensor {brief(name)}: data is not a list")
    return Declaration(name, datatype, _shape(name, entry), read_parameters(entry), data)


def read_name(entry: dict[str, Any]) -> str:
    """The ``name`` of an entry. Raises :class:`WireError` if it is no text."""
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 256:
        raise WireError("a tensor's name is a text of 1 to 256 characters")
    return name


def read_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """The ``parameters`` of an entry, empty if absent. Raises :class:`WireError`."""
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise WireError("parameters is not a JSON object")
    return parameters


def from_bytes(declaration: Declaration, raw: memoryview) -> Tensor:
    """A read-only view of ``raw`` as the declared tensor. ``raw`` has exactly its size."""
    flat = np.frombuffer(raw, dtype=DTYPES[declaration.datatype])
    array = flat.reshape(declaration.shape)
    array.flags.writeable = False
    return Tensor(declaration.name, array)


def from_json(declaration: Declaration) -> Tensor:
    """The tensor whose ``data`` stand in the JSON, flat or nested like its shape.

    Raises
    ------
    WireError
        If the data are not numbers, or not as many as the shape says.
    """
    values, shape, name = declaration.data or [], declaration.shape, declaration.name
    if values and isinstance(values[0], list):
        # Level by level, all rows of one level together: there are as many as the axes so far make.
        for axis in range(len(shape) - 1):
            rows_fit = len(values) == math.prod(shape[: axis + 1]) and all(
                isinstance(row, list) and len(row) == shape[axis + 1] for row in values
            )
            if not rows_fit:
                raise WireError(f"tensor {brief(name)}: data is not nested as {list(shape)}")
            values = [value for row in values for value in row]
    if not set(map(type, values)) <= {int, float}:
        raise WireError(f"tensor {brief(name)}: data holds something that is no number")
    if len(values) != declaration.size:
        raise WireError(
            f"tensor {brief(name)}: {len(values)} values do not fill shape {list(shape)}"
        )
    dtype = DTYPES[declaration.datatype]
    try:
        # A number too large for the datatype becomes infinite: what may be finite only is
        # for the model to say, as it is for binary data.
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=np.float64).astype(dtype)
    except OverflowError as error:
        raise WireError(f"tensor {brief(name)}: data holds a number beyond FP64") from error
    return Tensor(name, array.reshape(declaration.shape))


def brief(value: object) -> str:
    """A stranger's value, safe and short enough for one line of an error message."""
    text = ascii(value)
    return text if len(text) <= 64 else f"{text[:60]}…"


def _shape(name: str, entry: dict[str, Any]) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_AXES:
        raise WireError(f"tensor {brief(name)}: shape is not a list of 1 to {MAX_AXES} lengths")
    # bool is an int to Python; true is no length.
    if any(type(length) is not int or length < 1 for length in shape):
        raise WireError(f"tensor {brief(name)}: shape holds something that is no positive integer")
    if math.prod(shape) > MAX_ELEMENTS:
        raise WireError(f"tensor {brief(name)}: shape has more than {MAX_ELEMENTS} elements")
    return tuple(shape)
