"""The consortium's key: a change of basis of every token, which the server never learns.

``u' = Q·u + b`` with an orthogonal Q and a shift b for each resolution, drawn from a key that sites
share. It is obfuscation, not encryption: distances between tokens stay, and whoever knows as many
tokens as they have channels, with their keyed counterparts, solves for Q (method.md §3).
"""

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from veilseg.errors import InvalidInput, MissingDependency, OutputNotWritable
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.sequence import Layout
from veilseg.vault.permissions import require_private, write_private

KEY_BYTES = 32
HEADER = "veilseg consortium key 1"
PURPOSE = b"veilseg encoding "
# Finer than FP16 by far: linear algebra of another make rounds to the same basis.
BASIS_STEPS = 2.0**20
# Tokens have unit variance per channel; a shift of the same size hides where zero is.
SHIFT = 1.0


@dataclass(frozen=True, repr=False)
class ConsortiumKey:
    """A secret of all sites of a consortium. It cannot be printed or pickled."""

    secret: bytes

    def __repr__(self) -> str:
        return "<ConsortiumKey: redacted>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a ConsortiumKey never leaves the sites: it has no serialiser")

    @classmethod
    def new(cls) -> Self:
        """From the operating system's generator."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file.

        Raises
        ------
        InvalidInput
            If there is none, or it is something else.
        InvalidVault
            If others than its owner may read it.
        """
        if not path.is_file():
            raise InvalidInput(f"{path}: no such key file; make one with: veilseg key new {path}")
        require_private(path)
        try:
            header, text = path.read_text(encoding="ascii").splitlines()
            secret = bytes.fromhex(text)
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidInput(f"{path}: not a consortium key") from error
        if header != HEADER or len(secret) != KEY_BYTES:
            raise InvalidInput(f"{path}: not a consortium key")
        return cls(secret)

    def write(self, path: Path) -> None:
        """Write a file that only its owner may read.

        Raises
        ------
        OutputNotWritable
            If the file is there already, or cannot be written.
        """
        try:
            write_private(path, f"{HEADER}\n{self.secret.hex()}\n".encode("ascii"))
        except FileExistsError as error:
            raise OutputNotWritable(
                f"{path}: exists already: a key is never overwritten"
            ) from error
        except OSError as error:
            raise OutputNotWritable(f"{path}: cannot be written: {error.strerror}") from error

    def fingerprint(self) -> str:
        """By which a site knows that a bundle is of this key; tells nothing of the key."""
        return self._derived(b"fingerprint", 8).hex()

    def transform(self, layout: Layout, what: str) -> "Transform":
        """The change of basis of the encodings of images or of masks.

        Parameters
        ----------
        layout : Layout
        what : str
            ``image`` or ``mask``: each has a basis of its own.
        """
        bases, shifts = [], []
        for number, level in enumerate(layout.levels):
            seed = self._derived(f"{what} level {number}".encode(), KEY_BYTES)
            count = level.channels
            normal = _normal(seed, count * count + count)
            bases.append(_orthogonal(normal[: count * count].reshape(count, count)))
            shifts.append((SHIFT * normal[count * count :]).astype(np.float32))
        return Transform(layout, tuple(bases), tuple(shifts))

    def _derived(self, purpose: bytes, length: int) -> bytes:
        try:
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError as error:
            missing = f"a consortium key needs {error.name}: pip install 'veilseg[key]'"
            raise MissingDependency(missing) from error
        derivation = HKDF(hashes.SHA256(), length, salt=None, info=PURPOSE + purpose)
        return derivation.derive(self.secret)


@dataclass(frozen=True, repr=False)
class Transform:
    """Orthogonal basis and shift of each resolution. Never leaves the sites.

    Attributes
    ----------
    layout : Layout
    bases : tuple of ndarray, shape (channels, channels), float32
    shifts : tuple of ndarray, shape (channels,), float32
    """

    layout: Layout
    bases: tuple[Float32Array, ...]
    shifts: tuple[Float32Array, ...]

    def apply(self, sequence: Float32Array) -> Float32Array:
        """``Q·u + b`` of every token of sequences (…, values)."""
        tokens = self.layout.split(sequence)
        keyed = [
            part @ basis.T + shift
            for part, basis, shift in zip(tokens, self.bases, self.shifts, strict=True)
        ]
        return self.layout.joined(keyed)

    def revert(self, sequence: Float32Array) -> Float32Array:
        """``Qᵀ·(v' − b)`` of every token of sequences (…, values)."""
        tokens = self.layout.split(sequence)
        plain = [
            (part - shift) @ basis
            for part, basis, shift in zip(tokens, self.bases, self.shifts, strict=True)
        ]
        return self.layout.joined(plain)


def _normal(seed: bytes, count: int) -> NDArray[np.float64]:
    """Standard normal numbers from SHAKE-256: the same on every machine, for ever."""
    stream = hashlib.shake_256(seed).digest(8 * count)
    integers = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return np.asarray(ndtri((integers.astype(np.float64) + 0.5) / 2.0**53))


def _orthogonal(normal: NDArray[np.float64]) -> Float32Array:
    """Uniform over all orthogonal matrices: QR with the signs of R's diagonal (Mezzadri 2007)."""
    q, r = np.linalg.qr(normal)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.asarray(np.round(q * BASIS_STEPS) / BASIS_STEPS, dtype=np.float32)
