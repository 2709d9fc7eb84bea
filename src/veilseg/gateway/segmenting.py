"""One bundle at the gateway: the path of ``veilseg segment``, for any number of users."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import Progress, Segmented, channel_files, segment
from veilseg.client.processor import TileProcessor
from veilseg.client.transfer import StillWanted
from veilseg.client.watching import UNWATCHED, Watcher
from veilseg.errors import WrongUsage
from veilseg.imaging.formats import identity_of, require_source, write_segmentation
from veilseg.imaging.volume import LabelMap
from veilseg.payload import Proxy
from veilseg.scheme import ClientHalf
from veilseg.vault.ledger import Sent
from veilseg.vault.vault import Vault

Connect = Callable[[StillWanted | None], AbstractContextManager[TileProcessor]]


@dataclass(frozen=True)
class Subject:
    """Who an image is of. Stays at the site, in the ledger as a pseudonym.

    Attributes
    ----------
    name : str
    told : bool
        By a person or a header, and not only by what the file is called or holds.
    """

    name: str
    told: bool

    @classmethod
    def of(cls, image: Path, told: str, otherwise: str) -> "Subject":
        """As told, or else by the patient id of a DICOM header, or else by something else."""
        if told:
            return cls(told, told=True)
        identity = identity_of(image)
        if identity is not None and identity.patient:
            return cls(identity.patient, told=True)
        return cls(otherwise, told=False)


class Segmenter:
    """A bundle's client half, and the way to its server half. Used by any number of threads.

    Parameters
    ----------
    manifest : ClientManifest
    half : ClientHalf
    connect : callable
        Gives a processor that one image is processed by, and that asks, while it waits for a
        server, whether the image is still wanted.
    vault : Path, optional
        Folder of the ledger in which everything is entered that leaves; None if nothing does, or
        the scheme has no secret.
    needs_subject : bool
        Whether a person must have been told, since references are of people.
    servers : sequence of str
        Addresses of the servers; none where nothing leaves.
    """

    def __init__(
        self,
        manifest: ClientManifest,
        half: ClientHalf,
        connect: Connect,
        vault: Path | None = None,
        needs_subject: bool = False,
        servers: Sequence[str] = (),
    ) -> None:
        self.manifest = manifest
        self.needs_subject = needs_subject
        self.servers = tuple(servers)
        self._half = half
        self._connect = connect
        self._vault = vault

    @property
    def has_ledger(self) -> bool:
        """Whether what leaves is entered in a ledger."""
        return self._vault is not None

    def sent(self, subject: str) -> list[Sent]:
        """What was sent of somebody; nothing where there is no ledger.

        Raises
        ------
        InvalidVault, VaultIntegrity
            If the ledger cannot be used.
        """
        if self._vault is None:
            return []
        with Vault.open(self._vault, self.manifest.protection_id) as vault:
            return vault.sent(subject)

    def run(
        self,
        image: Path,
        subject: Subject,
        output: Path,
        *,
        allow_repeat: bool = False,
        dtype: str = "uint8",
        progress: Progress | None = None,
        watcher: Watcher = UNWATCHED,
    ) -> Segmented:
        """Segment an image and write its labels.

        Parameters
        ----------
        image : Path
            A file or series, as ``veilseg segment`` takes it.
        subject : Subject
        output : Path
            Its ending says the format.
        allow_repeat : bool
            Send a second, different proxy of the subject.
        dtype : str
            Of the labels, where the format has a choice.
        progress : callable, optional
            Called with (tiles done, tiles in all), also while a server keeps the site waiting; what
            it raises ends the segmentation.
        watcher : Watcher
            Is told each stage, and shown what there is.

        Raises
        ------
        InvalidInput, ServerError, IntegrityError
            As ``veilseg segment``. Nothing is written then.
        """
        if self.needs_subject and not subject.told:
            raise WrongUsage(
                "subject: say who it is, as in the references' cases.csv: nobody must be mixed "
                "with their own image"
            )
        files = channel_files(image, self.manifest)
        warnings: list[str] = []

        def before_sending(proxies: Sequence[Proxy]) -> None:
            require_source(output, files, self.manifest)
            warnings.extend(self._record(subject, proxies, allow_repeat))

        shown = (0, 0)

        def report(done: int, total: int) -> None:
            nonlocal shown
            shown = done, total
            if progress is not None:
                progress(done, total)

        with self._connect(lambda: report(*shown)) as processor:
            found = segment(
                *(files, subject.name, self.manifest, self._half, processor),
                *(before_sending, report),
                watcher=watcher,
            )
        found.warnings.extend(warnings)
        labels = LabelMap(found.labels.array.astype(dtype), found.labels.geometry)
        write_segmentation(output, labels, files, self.manifest)
        return found

    def _record(self, subject: Subject, proxies: Sequence[Proxy], allow_repeat: bool) -> list[str]:
        if self._vault is None:
            return []
        # Opened for each image: a connection to SQLite belongs to one thread.
        with Vault.open(self._vault, self.manifest.protection_id) as vault:
            digests = [proxy.digest() for proxy in proxies]
            known = vault.record(subject.name, *digests, allow_repeat=allow_repeat)
        if known == len(digests):
            return []
        return [
            f"this server now has {known} different proxies of this subject and can average them"
        ]
