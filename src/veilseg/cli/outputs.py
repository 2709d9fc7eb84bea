"""Where results go: refused before work starts if one would be lost or overwrite something."""

import glob
import tempfile
from collections.abc import Sequence
from pathlib import Path

from veilseg.errors import InvalidInput, OutputNotWritable, WrongUsage
from veilseg.imaging.formats import channel, ending_of, result_endings, stem_of


def result_files(images: Sequence[Path], out: Path, further: Sequence[Path]) -> list[Path]:
    """Name the label map of each image, and check that everything can be written.

    Parameters
    ----------
    images : sequence of Path
    out : Path
        A file, whose ending is one that the image's format allows, or a folder, which is made.
    further : sequence of Path
        What else is written, by the options that are named in the error.

    Raises
    ------
    WrongUsage
        If the ending is not the image's, or several images are to go to one file.
    InvalidInput
        If a result would overwrite another or an image.
    OutputNotWritable
        If a folder takes no file.
    """
    if ending_of(out):
        if len(images) > 1:
            raise WrongUsage(f"{out}: several images need a folder, not a file")
        allowed = result_endings(images[0])
        if ending_of(out).lower() not in allowed:
            raise WrongUsage(
                f"{out}: must end in {' or '.join(allowed)}, as labels of {images[0].name}"
            )
        outputs = [out]
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{out}: cannot be made: {error.strerror}") from error
        outputs = [out / f"{stem_of(image)}{result_endings(image)[0]}" for image in images]
    if len(set(outputs)) < len(outputs):
        raise InvalidInput(
            "two images have the same name: their results would overwrite each other"
        )
    written = [*outputs, *further]
    if len({path.resolve() for path in written}) < len(written):
        raise InvalidInput(
            f"{written[-1]}: -o, --uncertainty, --save-proxy and --json would overwrite each other"
        )
    for path in written:
        for image in images:
            channels = _channels_of(image)
            if path.resolve() in channels:
                raise InvalidInput(f"{path}: would overwrite the image itself; choose another")
            if path.exists() and not channels.isdisjoint(path.resolve().parents):
                raise InvalidInput(f"{path}: would overwrite a file of the image; choose another")
        _require_writable(path)
    return outputs


def _channels_of(image: Path) -> set[Path]:
    """Resolved paths of an image and of its further channels, however many there are."""
    if channel(image, 0) is None:
        return {image.resolve()}
    stem, dot, ending = image.name.partition("_0000.")
    pattern = f"{glob.escape(stem.removesuffix('_0000'))}_????{dot[-1:]}{ending}"
    return {path.resolve() for path in image.parent.glob(pattern)}


def _require_writable(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputNotWritable(f"{path}: folder {path.parent} does not exist")
    if path.is_dir():
        raise OutputNotWritable(f"{path}: is a folder")
    try:
        # Tried, since modes do not tell all; and now, since later a proxy has left in vain.
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OutputNotWritable(f"{path}: cannot be written: {error.strerror}") from error
