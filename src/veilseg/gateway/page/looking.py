"""What there is to see of one image at the site, kept beside its upload."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from veilseg.bundle import ClientManifest
from veilseg.client.watching import Stage
from veilseg.gateway.page.documents import colours
from veilseg.imaging import display
from veilseg.imaging.preprocessing import Restoration
from veilseg.imaging.volume import LabelMap, Volume
from veilseg.payload import Answer, Proxy

IMAGE, PROXY, ANSWER, LABELS = VIEWS = ("image", "proxy", "answer", "labels")
ENDING: Final = ".nii"
Began = Callable[[Stage], None]


class Looking:
    """Watches one image on the main path and keeps pictures of it.

    Parameters
    ----------
    folder : Path
        Private; takes one file for each of :data:`VIEWS`.
    manifest : ClientManifest
    began : callable
        Is told each stage; may raise to end the image.

    Attributes
    ----------
    linked : bool
        Whether what was sent and answered lies over the image: an encoding lies nowhere.
    """

    def __init__(self, folder: Path, manifest: ClientManifest, began: Began) -> None:
        self._folder = folder
        self._manifest = manifest
        self._began = began
        self.linked = True

    def began(self, stage: Stage) -> None:
        """As :class:`~veilseg.client.watching.Watcher`."""
        self._began(stage)

    def read(self, volume: Volume) -> None:
        """Keep the patient image."""
        self._keep(IMAGE, display.image(volume))

    def answered(self, proxy: Proxy, restoration: Restoration, answer: Answer) -> None:
        """Keep what left and what came."""
        if proxy.tiled:
            self.linked = False
            self._keep(PROXY, display.sequences(proxy.array))
            self._keep(ANSWER, display.sequences(answer.array))
            return
        ruler = display.Ruler.of_prepared(restoration)
        shades = [label.rgb for label in colours(self._manifest)]
        self._keep(PROXY, display.grey(proxy.array, ruler))
        self._keep(ANSWER, display.mixed(answer.array, shades, ruler))

    def found(self, labels: LabelMap) -> None:
        """Keep the segmentation."""
        self._keep(LABELS, display.labels(labels))

    def _keep(self, name: str, content: bytes) -> None:
        (self._folder / f"{name}{ENDING}").write_bytes(content)
