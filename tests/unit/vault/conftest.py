"""Vaults and labelled references in small."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from veilseg.vault.vault import LabelledReference, Vault

BUNDLE = "b" * 64


@pytest.fixture
def make_references() -> Callable[..., list[LabelledReference]]:
    """One labelled reference per patient; the image's values tell which it is."""

    def build(*patients: str) -> list[LabelledReference]:
        return [
            LabelledReference(
                patient,
                np.full((1, 4, 3, 2), (number + 1) / 64, dtype=np.float32),
                np.full((4, 3, 2), number, dtype=np.uint8),
            )
            for number, patient in enumerate(patients)
        ]

    return build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A vault of the bundle ``bbb…`` without references."""
    folder = tmp_path / "vault"
    Vault.create(folder, BUNDLE)
    return folder
