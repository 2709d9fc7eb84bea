"""Small real bundles, and the real server as a process."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from veilseg.bundle import (
    ClientManifest,
    Expectation,
    IntensityRule,
    Label,
    ServerManifest,
    TensorSpec,
    open_client_half,
    seal,
)
from veilseg.child_processes import stop

# Unequal axes, so that a swapped pair of them cannot go unnoticed.
TINY_TILE = (1, 8, 6, 4)


def tiny_answer(tile: np.ndarray) -> np.ndarray:
    """What the tiny network computes: class 0 is 1 - proxy, class 1 is proxy."""
    return np.concatenate([1 - tile, tile]).astype(np.float32)


def tiny_network(datatype: str, factor: float = 1.0) -> onnx.ModelProto:
    """An ONNX model of :func:`tiny_answer`; ``factor`` scales it, infinity breaks it."""
    wire = {"FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT}[datatype]
    nodes = [
        helper.make_node("Cast", ["proxy"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "x"], ["rest"]),
        helper.make_node("Concat", ["rest", "x"], ["both"], axis=1),
        helper.make_node("Mul", ["both", "factor"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["answer"], to=wire),
    ]
    channels, *space = TINY_TILE
    constants = [
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("proxy", wire, [1, channels, *space])],
        [helper.make_tensor_value_info("answer", wire, [1, 2 * channels, *space])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="session")
def tile() -> np.ndarray:
    """A proxy tile whose values are exact in bfloat16, shape (1, 8, 6, 4)."""
    rng = np.random.default_rng(3)
    tile = (rng.integers(0, 129, TINY_TILE) / 128).astype(np.float32)
    tile.flags.writeable = False
    return tile


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory, tile: np.ndarray) -> Callable[..., Path]:
    """Build and seal a bundle of the tiny network."""

    def build(
        name: str = "tiny",
        version: str = "1.2.0",
        datatype: str = "FP16",
        factor: float = 1.0,
        model: bytes | None = None,
        selftest: bytes | None = None,
    ) -> Path:
        bundle = tmp_path_factory.mktemp("bundle")
        (bundle / "client").mkdir(parents=True)
        (bundle / "server" / name / "1").mkdir(parents=True)
        (bundle / "server" / "selftest").mkdir()
        network = tiny_network(datatype, factor).SerializeToString() if model is None else model
        (bundle / "server" / name / "1" / "model.onnx").write_bytes(network)
        arrays = io.BytesIO()
        np.savez(arrays, proxy=tile, answer=tiny_answer(tile))
        content = arrays.getvalue() if selftest is None else selftest
        (bundle / "server" / "selftest" / "tile.npz").write_bytes(content)
        channels, *space = TINY_TILE
        proxy = TensorSpec("proxy", datatype, (1, channels, *space))
        answer = TensorSpec("answer", datatype, (1, 2 * channels, *space))
        client = ClientManifest(
            name=name,
            version=version,
            scheme="plain",
            labels=(Label(0, "background"), Label(1, "foreground")),
            spatial_dims=3,
            channels=("T1",),
            spacing_mm=(1.0, 1.0, 1.0),
            tile_shape=tuple(space),
            tile_overlap=0.25,
            intensity=IntensityRule("as-is", 0.0, 1.0),
            expectation=Expectation((0.0, 1.0), (1.0, 300.0), (0.5, 2.0), (1.0,), 1.0),
            proxy=proxy,
            answer=answer,
            settings={},
            licence="Apache-2.0",
            provenance={},
        )
        seal(bundle, client, ServerManifest(name, version, proxy, answer))
        return bundle

    return build


@pytest.fixture(scope="session")
def manifest(make_bundle: Callable[..., Path]) -> ClientManifest:
    """The client manifest of a tiny bundle."""
    return open_client_half(make_bundle()).manifest


@dataclass(frozen=True)
class ServerProcess:
    """A running server: where it is, and what it printed before it listened."""

    url: str
    lines: list[str]

    @property
    def address(self) -> str:
        """HOST:PORT, as tritonclient wants it."""
        return self.url.removeprefix("http://")


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Start the real server on a free port; stopped when the module's tests end."""
    with contextlib.ExitStack() as running:

        def start(*bundles: Path, **options: Any) -> ServerProcess:
            code = (
                "import pathlib, sys; from veilseg.cli.serve import serve;"
                f"serve([pathlib.Path(p) for p in sys.argv[1:]], port=0, **{options!r})"
            )
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, bundles)],
                stdout=subprocess.PIPE,
                text=True,
            )
            running.callback(stop, process)
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                if line.startswith("listening on "):
                    return ServerProcess(line.removeprefix("listening on ").strip(), lines)
                lines.append(line.rstrip("\n"))
            raise AssertionError(f"the server did not start: {lines}")

        yield start


@pytest.fixture(scope="session")
def remembered_exports() -> Iterator[None]:
    """Trainings in this process export each graph once."""
    import torch.onnx
    from exports import RememberedExports

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", RememberedExports(torch.onnx.export))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VEILSEG_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder.name}: set VEILSEG_DATA")
    return folder
