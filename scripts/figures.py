"""Bring the figures and plots of README, docs and model cards up to date with ``results/``."""

from evidence.blocks import documents, rendered
from evidence.places import Places, default_places
from evidence.plots import draw

from veilseg.files import write_text_whole


def update(places: Places) -> None:
    """Draw the plots, then rewrite the blocks, which show the plots that there are."""
    draw(places)
    for path, bundle in documents(places).items():
        text = path.read_text(encoding="utf-8")
        new = rendered(text, places, bundle)
        if new != text:
            write_text_whole(path, new)


if __name__ == "__main__":
    update(default_places())
