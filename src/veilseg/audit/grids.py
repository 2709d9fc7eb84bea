"""Cases on a tile's grid, cut or padded, nothing scaled."""

from dataclasses import replace

import numpy as np

from veilseg.datasets.cases import PreparedCase


def central(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[slice, ...]:
    """The tile in the middle of a grid that is at least as large."""
    corners = [(size - part) // 2 for size, part in zip(shape, tile, strict=True)]
    return tuple(slice(c, c + part) for c, part in zip(corners, tile, strict=True))


def fitted(case: PreparedCase, shape: tuple[int, ...]) -> PreparedCase:
    """A case on another grid: cut or padded evenly, nothing scaled."""
    wider = [max(0, want - has) for want, has in zip(shape, case.labels.shape, strict=True)]
    padding = [(more // 2, more - more // 2) for more in wider]
    image = np.pad(case.image, ((0, 0), *padding))
    labels = np.pad(case.labels, padding)
    window = central(labels.shape, shape)
    return replace(case, image=image[(slice(None), *window)], labels=labels[window])
