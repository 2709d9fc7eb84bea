"""A small world: people who differ, a bundle that mixes them, an attacker with its own people."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from scipy import ndimage

from veilseg.audit.scene import Scene
from veilseg.audit.workshop import Effort, Workshop
from veilseg.bundle import ClientManifest, open_client_half, open_server_half
from veilseg.cli.local import LocalServer
from veilseg.datasets.cases import PreparedCase

SHAPE = phantoms.TILE[:2]
PEOPLE, AUDITED = 40, 10


def person(number: int, shape: tuple[int, ...] = SHAPE) -> PreparedCase:
    """A body with an organ in it, each of a size, place and texture of its own."""
    rng = np.random.default_rng([77, number])
    size = np.array(shape).reshape(-1, 1, 1)
    place = np.indices(shape) / size - 0.5
    body = (place / rng.uniform(0.38, 0.48, (2, 1, 1))) ** 2
    middle = rng.uniform(-0.12, 0.12, (2, 1, 1))
    organ = ((place - middle) / rng.uniform(0.12, 0.22, (2, 1, 1))) ** 2
    labels = np.select([organ.sum(axis=0) < 1, body.sum(axis=0) < 1], [2, 1], 0).astype(np.uint8)
    grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    image = np.array([0, 0.4, 0.85])[labels] + 0.08 * grain / grain.std()
    image = np.where(labels > 0, image.clip(0.05, 1), 0)
    return PreparedCase(f"c{number}", f"p{number}", image[None].astype(np.float32), labels)


@pytest.fixture(scope="session")
def shipped_mixup() -> ClientManifest:
    """Of the hippocampus bundle in ``models/``."""
    models = Path(__file__).resolve().parents[3] / "models"
    return open_client_half(models / "hippocampus-mixup").manifest


@pytest.fixture(scope="session")
def people() -> list[PreparedCase]:
    return [person(number) for number in range(PEOPLE)]


@pytest.fixture(scope="session")
def make_scene(
    tmp_path_factory: pytest.TempPathFactory, people: list[PreparedCase]
) -> Callable[..., Scene]:
    """A scene of one scheme; the server tells labels by intensity, and was trained on nobody."""

    def build(scheme: str, **settings: object) -> Scene:
        folder = phantoms.make_bundle(
            tmp_path_factory.mktemp("bundle") / scheme, scheme, spatial_dims=2, **settings
        )
        server = LocalServer(open_server_half(folder))
        own = people[:-AUDITED]
        return Scene(open_client_half(folder), server, own, people[-AUDITED:], own)

    return build


@pytest.fixture(scope="session")
def mixup(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene("mixup")


@pytest.fixture(scope="session")
def plain(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene("plain")


def _workshop(scene: Scene, folder: Path, **effort: object) -> Workshop:
    spent = {
        "name": "test",
        "steps": 150,
        "audited": AUDITED,
        "fitted": 0,
        "proxies": 8,
        "registration": 100,
    }
    return Workshop(scene, Effort(**(spent | effort)), folder, lambda *_: None)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workshop]:
    """A workshop of one's own, with little effort."""
    return lambda scene, **effort: _workshop(scene, tmp_path_factory.mktemp("work"), **effort)


@pytest.fixture(scope="session")
def session_workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scene], Workshop]:
    """The workshop of a scene: what is trained in it is trained once for all tests."""
    made: dict[str, Workshop] = {}

    def build(scene: Scene) -> Workshop:
        name = scene.manifest.scheme
        if name not in made:
            made[name] = _workshop(scene, tmp_path_factory.mktemp(name))
        return made[name]

    return build
