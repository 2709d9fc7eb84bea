"""A model card says what is true of its bundle."""

from dataclasses import replace

import phantoms
import pytest

from veilseg.bundle import open_client_half
from veilseg.training.card import model_card

PROVENANCE = {
    **{"dataset": "phantoms", "data_sha256": "0" * 64, "seed": 3, "steps": 7, "batch": 2},
    **{"cases": {"train": 5, "validation": 1, "test": 2}, "commit": "c" * 40, "fold": None},
}


@pytest.fixture
def card(tmp_path):
    """The card of a bundle of phantoms with other fields."""
    manifests = {
        scheme: open_client_half(phantoms.make_bundle(tmp_path / scheme, scheme)).manifest
        for scheme in ("mixup", "plain")
    }

    def render(scheme="mixup", fold=None, settings=None, **fields):
        manifest = manifests[scheme]
        settings = manifest.settings | (settings or {})
        provenance = PROVENANCE | {"fold": fold}
        changed = replace(manifest, provenance=provenance, settings=settings, **fields)
        return " ".join(model_card(changed, "id").split())

    return render


def test_unit_and_fold(card):
    assert "of 8×8×8 at 2×2×2 mm, seed 3" in card(tile_shape=(8, 8, 8), spacing_mm=(2.0,) * 3)
    pictures = card(tile_shape=(16, 8), spacing_mm=(1.0, 1.0), unit="pixel", fold="2/5")
    assert "of 16×8 pixels, seed 3" in pictures
    assert " mm" not in pictures
    assert "split by patient, fold 2/5." in pictures


@pytest.mark.parametrize(
    ("unmixing", "references", "published", "secret"),
    [
        ("learned", "synthetic", "The unmixing network and the template of synthetic", "key."),
        ("learned", "labelled", "The unmixing network is published", "key and labelled cases."),
        ("algebraic", "synthetic", "The template of synthetic references is published", "key."),
        ("algebraic", "labelled", "Nothing that recovers is published", "key and labelled cases."),
    ],
)
def test_what_is_public_and_what_is_not(card, unmixing, references, published, secret):
    found = card(settings={"unmixing": unmixing, "references": [references]})
    assert published in found
    assert f"rests on the site's {secret}" in found


def test_plain_protects_nothing(card):
    assert "What it protects None. The server sees the image" in card("plain")
