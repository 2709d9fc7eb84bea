"""Looking on while an image takes the main path, for pages and reports at the site."""

from typing import Final, Literal, Protocol

from veilseg.imaging.preprocessing import Restoration
from veilseg.imaging.volume import Volume
from veilseg.payload import Answer, Proxy

Stage = Literal["preparing", "protecting", "sending", "recovering"]


class Watcher(Protocol):
    """Is told how far one image is, and shown what there is of it; ends it by raising."""

    def began(self, stage: Stage) -> None:
        """A stage begins."""

    def read(self, volume: Volume) -> None:
        """The patient image, as it was read."""

    def answered(self, proxy: Proxy, restoration: Restoration, answer: Answer) -> None:
        """What the server was shown, where that lies in the image, and what it answered."""


class Unwatched:
    """Of images that nobody looks at."""

    def began(self, stage: Stage) -> None: ...

    def read(self, volume: Volume) -> None: ...

    def answered(self, proxy: Proxy, restoration: Restoration, answer: Answer) -> None: ...


UNWATCHED: Final = Unwatched()
