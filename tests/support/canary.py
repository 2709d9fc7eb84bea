"""Looking for what must not be there: names in any form, and voxels as any affine copy."""

import base64
import json
import zlib
from collections.abc import Iterable

import numpy as np

from veilseg.wire import decode_request

# Of an affine copy, rounding to FP16 leaves all but 1e-6 of the correlation. At this one, least
# squares leave √(1/0.999² − 1) = 4.5 % of the block's contrast unexplained.
CORRELATION = 0.999
FLAT = 1e-3


def forms(secret: str) -> list[bytes]:
    """A string as it is, in other encodings, and packed."""
    plain = secret.encode()
    found = [plain, plain.lower(), plain.upper(), plain.hex().encode(), plain[::-1]]
    found += [secret.encode("utf-16-le"), secret.encode("utf-16-be")]
    # Base64 of a text that begins one, two or three bytes into a group of three.
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + plain)
        found.append(coded[4 * (shift > 0) : -4])
    found += [json.dumps(secret).strip('"').encode(), secret.replace("^", "%5E").encode()]
    return found


def require_none_of(secrets: Iterable[str], content: bytes) -> None:
    """Fail if a secret stands in a content, in some form, compressed or not."""
    unpacked = [content]
    for start in range(len(content) - 2):
        # Whatever was compressed begins with one of these.
        if (
            content[start : start + 3] == b"\x1f\x8b\x08"
            or content[start : start + 2] == b"\x78\x9c"
        ):
            try:
                unpacked.append(zlib.decompressobj(47).decompress(content[start:]))
            except zlib.error:
                continue
    for secret in secrets:
        for form in forms(secret):
            assert not any(form in part for part in unpacked), (secret, form)


def tiles_in(sent: bytes) -> list[np.ndarray]:
    """Proxy tiles of the requests of one connection, taken from the bytes alone."""
    tiles = []
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        lines = head.decode("ascii").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        length = int(fields.get("content-length", "0"))
        if lines[0].startswith("post "):
            request = decode_request(rest[:length], fields["inference-header-content-length"])
            tiles.append(request.inputs[0].array[0, 0].astype(np.float64))
        sent = rest[length:]
    return tiles


def is_copied(tiles: list[np.ndarray], block: np.ndarray) -> bool:
    """Whether any window of any tile is an affine copy of the block."""
    mark = block.astype(np.float64).ravel()
    mark = (mark - mark.mean()) / mark.std()
    for tile in tiles:
        windows = np.lib.stride_tricks.sliding_window_view(tile, block.shape)
        flat = windows.reshape(-1, mark.size)
        centred = flat - flat.mean(axis=1, keepdims=True)
        spread = centred.std(axis=1)
        covariance = np.abs(centred @ mark / mark.size)
        # A flat window correlates with nothing.
        if (covariance > CORRELATION * np.maximum(spread, FLAT)).any():
            return True
    return False


def is_copied_turned(tiles: list[np.ndarray], block: np.ndarray) -> bool:
    """Whether a block is copied in any turn of its axes: a series is brought to RAS+ first."""
    turns = [
        np.flip(block.transpose(order), axes)
        for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    ]
    return any(is_copied(tiles, turn) for turn in turns)
