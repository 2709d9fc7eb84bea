"""What a site keeps and never sends: key, labelled references, ledger of proxies.

Layout: ``VAULT/key`` (32 random bytes), ``VAULT/vault.sqlite``, ``VAULT/references/*.npz``;
the folder is private to its owner. A vault belongs to one bundle.
"""

import contextlib
import hashlib
import hmac
import io
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from veilseg.errors import InvalidVault, OutputNotWritable, VaultIntegrity
from veilseg.payload import Float32Array
from veilseg.vault.ledger import Ledger, Sent
from veilseg.vault.permissions import OWNER_ONLY_FOLDER, require_private, write_private

KEY_BYTES = 32
FORMAT = "1"
_KEY_CHECK = "veilseg vault key check"


@dataclass(frozen=True)
class LabelledReference:
    """A labelled case of the site on the bundle's grid.

    Attributes
    ----------
    patient : str
        Never mixed into an image of the same patient.
    image : ndarray, shape (C, X, Y, Z), float32
    labels : ndarray, shape (X, Y, Z), uint8
    """

    patient: str
    image: Float32Array
    labels: NDArray[np.uint8]


class Vault:
    """Use :meth:`create`, :meth:`open` or :meth:`in_memory`.

    Its ``repr`` tells nothing, and it cannot be pickled.
    """

    def __init__(
        self,
        key: bytes,
        ledger: Ledger,
        references: Sequence[tuple[str, Callable[[], LabelledReference]]],
    ) -> None:
        self._key = key
        self._ledger = ledger
        self._references = references

    def __repr__(self) -> str:
        return "<Vault: redacted>"

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        raise TypeError("a Vault never leaves the site: it has no serialiser")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ledger.close()

    @classmethod
    def create(
        cls,
        folder: Path,
        bundle_id: str,
        references: Sequence[LabelledReference] = (),
        key: bytes | None = None,
    ) -> None:
        """Make a new vault with a fresh key; whole or not at all.

        Parameters
        ----------
        folder : Path
            Must not exist, or be empty.
        bundle_id : str
        references : sequence of LabelledReference
            Empty: synthetic references from the bundle's template.
        key : bytes or None
            32 bytes in place of fresh ones, where results must repeat and nothing is secret.

        Raises
        ------
        InvalidVault
            If the folder holds something already.
        OutputNotWritable
            If it cannot be made.
        """
        place = folder.absolute()  # "." has no name to put a staging folder beside
        staging = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            if place.exists() and (not place.is_dir() or any(place.iterdir())):
                raise InvalidVault(
                    f"{folder}: exists already and is not empty; a key is not replaced"
                )
            staging.mkdir(mode=OWNER_ONLY_FOLDER)
            _fill(staging, bundle_id, references, key or secrets.token_bytes(KEY_BYTES))
            if place.exists():
                place.rmdir()
            staging.rename(place)
        except OSError as error:
            raise OutputNotWritable(f"{folder}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @classmethod
    def open(cls, folder: Path, bundle_id: str | None) -> "Vault":
        """Open and check a vault.

        Parameters
        ----------
        folder : Path
        bundle_id : str or None
            The bundle it must belong to; None where only the ledger is needed.

        Raises
        ------
        InvalidVault
            If it is missing or open to others.
        VaultIntegrity
            If it is damaged or belongs to another bundle.
        """
        key_file, database = folder / "key", folder / "vault.sqlite"
        if not folder.is_dir():
            raise InvalidVault(f"{folder}: no such vault; make one with: veilseg site init")
        try:
            for path in (folder, key_file, database):
                if not path.exists():
                    raise VaultIntegrity(f"{path}: missing: the vault is damaged")
                require_private(path)
            key = key_file.read_bytes()
        except OSError as error:
            raise InvalidVault(f"{folder}: cannot be read: {error.strerror}") from error
        ledger = Ledger(database)
        try:
            _require_sound(folder, ledger.settings(), key, bundle_id)
            references = [
                (patient, _Stored(folder / "references" / name, sha256))
                for name, sha256, patient in ledger.reference_files()
            ]
        except BaseException:
            ledger.close()
            raise
        return cls(key, ledger, references)

    @classmethod
    def in_memory(cls, key: bytes, references: Sequence[LabelledReference] = ()) -> "Vault":
        """A vault without files, for runs in which nothing leaves (``--local``, evaluation)."""
        stored: list[tuple[str, Callable[[], LabelledReference]]] = [
            (_mac(key, "patient", reference.patient), _Held(reference)) for reference in references
        ]
        return cls(key, Ledger(None), stored)

    def generator(self, *context: str | bytes) -> Generator:
        """Randomness fixed by the key and a context: HMAC-SHA256 as a PRF.

        The same image at the same site always gives the same stream; without the key nobody
        can tell the streams of two images apart from fresh ones.
        """
        return np.random.default_rng(int(_mac(self._key, "generator", *context), 16))

    @property
    def has_labelled_references(self) -> bool:
        """Whether references are labelled cases of people, not drawn from the template."""
        return bool(self._references)

    def draw_reference(self, rng: Generator, subject: str) -> LabelledReference | None:
        """One labelled reference of another patient; None if the vault has none at all.

        Raises
        ------
        InvalidVault
            If every reference is of this very patient.
        """
        if not self.has_labelled_references:
            return None
        own = _mac(self._key, "patient", subject)
        others = [load for patient, load in self._references if patient != own]
        if not others:
            raise InvalidVault("references: all are of the patient to be segmented; add others")
        return others[int(rng.integers(len(others)))]()

    def record(self, subject: str, *proxy_digests: str, allow_repeat: bool) -> int:
        """Enter the proxies of one call in the ledger before they are sent.

        Returns
        -------
        int
            Different proxies of this subject so far, these included.

        Raises
        ------
        RepeatRefused
            If others of the subject were sent before and repeats are not allowed.
        """
        pseudonym = _mac(self._key, "subject", subject)
        self._ledger.record(pseudonym, *proxy_digests, allow_repeat=allow_repeat)
        return self._ledger.different_proxies(pseudonym)

    def sent(self, subject: str) -> list[Sent]:
        """What was sent of a subject, how often and when."""
        return self._ledger.sent(_mac(self._key, "subject", subject))

    def forget(self, subject: str) -> int:
        """Remove a subject from the ledger; returns how many proxies were forgotten."""
        return self._ledger.forget(_mac(self._key, "subject", subject))


def _fill(
    folder: Path, bundle_id: str, references: Sequence[LabelledReference], key: bytes
) -> None:
    write_private(folder / "key", key)
    write_private(folder / "vault.sqlite", b"")
    (folder / "references").mkdir(mode=OWNER_ONLY_FOLDER)
    with contextlib.closing(Ledger(folder / "vault.sqlite")) as ledger:
        ledger.set("format", FORMAT)
        ledger.set("bundle_id", bundle_id)
        ledger.set("key_check", _mac(key, _KEY_CHECK))
        for index, reference in enumerate(references):
            name = f"{index:04d}.npz"
            content = io.BytesIO()
            np.savez_compressed(
                content, image=reference.image.astype(np.float16), labels=reference.labels
            )
            write_private(folder / "references" / name, content.getvalue())
            sha256 = hashlib.sha256(content.getvalue()).hexdigest()
            ledger.add_reference(name, sha256, _mac(key, "patient", reference.patient))


def _require_sound(
    folder: Path, settings: dict[str, str], key: bytes, bundle_id: str | None
) -> None:
    if settings.get("format") != FORMAT:
        raise VaultIntegrity(f"{folder}: format {settings.get('format')} is not {FORMAT}")
    if len(key) != KEY_BYTES or not hmac.compare_digest(
        settings.get("key_check", ""), _mac(key, _KEY_CHECK)
    ):
        raise VaultIntegrity(f"{folder / 'key'}: damaged: not the key this vault was made with")
    if bundle_id is not None and settings.get("bundle_id") != bundle_id:
        raise VaultIntegrity(
            f"{folder}: belongs to bundle {settings.get('bundle_id', '')[:12]}, "
            f"not to {bundle_id[:12]}: make a vault for this one"
        )


@dataclass(frozen=True)
class _Held:
    reference: LabelledReference

    def __call__(self) -> LabelledReference:
        return self.reference


@dataclass(frozen=True)
class _Stored:
    """A reference file, read and verified when it is drawn."""

    path: Path
    sha256: str

    def __call__(self) -> LabelledReference:
        try:
            content_hash = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise VaultIntegrity(f"{self.path}: damaged: {error.strerror}") from error
        if content_hash != self.sha256:
            raise VaultIntegrity(f"{self.path}: damaged: SHA-256 differs from the vault's record")
        with np.load(self.path, allow_pickle=False) as stored:
            return LabelledReference("", stored["image"].astype(np.float32), stored["labels"])


def _mac(key: bytes, *context: str | bytes) -> str:
    """HMAC-SHA256 over length-prefixed parts, so that no two contexts run together."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in context:
        data = part.encode() if isinstance(part, str) else part
        mac.update(len(data).to_bytes(8, "big") + data)
    return mac.hexdigest()
