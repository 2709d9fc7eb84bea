"""Images that lie at the site already, found by name or, of DICOM, by the UID of their series."""

import re
import threading
from pathlib import Path
from typing import Final

from veilseg.errors import VeilsegError
from veilseg.gateway.errors import UnknownObject
from veilseg.imaging.formats import ending_of, identity_of, is_dicom, stem_of

UID: Final = re.compile(r"[0-9.]{1,64}")
CHANNEL: Final = re.compile(r"_\d{4}(?=$|\.)")


class Datastore:
    """The images in a folder: each a file, or a folder with one series.

    Parameters
    ----------
    folder : Path or None
        None has no images.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # UID of the series that a file or folder holds, and when that was looked up.
        self._series: dict[Path, tuple[int, str]] = {}

    def names(self) -> list[str]:
        """What images can be asked for, as a person would: without endings."""
        return sorted({stem_of(image) for image in self._images()})

    def find(self, name: str) -> Path:
        """An image by its name, with or without ending, or by the UID of its series.

        Raises
        ------
        UnknownObject
            If there is none, or several of the name.
        """
        images = self._images()
        found = [one for one in images if name in (one.name, stem_of(one))]
        if not found and UID.fullmatch(name):
            found = [one for one in images if self._series_of(one) == name]
        if len(found) != 1:
            kind = "several images" if found else "no image"
            raise UnknownObject(f"image: {kind} of that name here")
        return found[0]

    def _images(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        shown = {one.name: one for one in self._folder.iterdir() if not one.name.startswith(".")}
        # Of several channels the first stands for all; a name may end so without being one of them.
        firsts = {name: CHANNEL.sub("_0000", name) for name in shown}
        return sorted(
            one
            for name, one in shown.items()
            if (one.is_dir() or ending_of(one) or is_dicom(one))
            and (firsts[name] == name or firsts[name] not in shown)
        )

    def _series_of(self, image: Path) -> str:
        """UID of a series, remembered while the file or folder does not change."""
        try:
            changed = image.stat().st_mtime_ns
            known = self._series.get(image)
            if known is None or known[0] != changed:
                identity = identity_of(image)
                known = changed, "" if identity is None else identity.series
        except (VeilsegError, OSError):
            # What cannot be read is not what was asked for; segmenting it by name says why.
            return ""
        with self._lock:
            self._series[image] = known
        return known[1]
