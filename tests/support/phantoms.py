"""Phantoms whose intensity tells the label, and sealed bundles that segment them, without torch.

The server half assigns each voxel to the nearest of three intensities: an ideal server for
``plain``. The unmixer of ``mixup`` is the algebraic inverse as a network, so that with an
:class:`~servers.OracleServer` the whole path has to give back the truth.
"""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from veilseg.bundle import (
    ClientBundle,
    ClientManifest,
    Expectation,
    IntensityRule,
    Label,
    ServerManifest,
    TensorSpec,
    open_client_half,
    seal,
)
from veilseg.imaging.plausibility import HISTOGRAM_BINS
from veilseg.schemes.references import TEMPLATE_FILE, UNMIXER_FILE, Template

TILE = (16, 16, 16)
# Prepared intensity of background, shell and core; raw images hold a thousand times that.
CENTRES = (0.0, 0.4, 0.9)
RAW_SCALE = 1000
SHARPNESS = 100.0
LABELS = (Label(0, "background"), Label(1, "shell"), Label(2, "core"))
CLASSES = len(LABELS)
# Two axes turned and one of the others flipped: what comes back must be in the file's own order.
TURNED = np.array([[0, -1.0, 0, 5], [1, 0, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])


def truth(shape: tuple[int, ...] = (14, 12, 13), radius: float = 1.0) -> np.ndarray:
    """Labels of an ellipsoid, or ellipse, that touches all sides: core in shell in nothing."""
    centre = ((np.array(shape) - 1) / 2).reshape(-1, *[1] * len(shape))
    place = (np.indices(shape) - centre) / centre
    # On a side of even length no voxel lies on the axis; the slack lets its neighbours count.
    distance = np.sqrt((place**2).sum(axis=0)) / 1.02
    return np.select([distance < 0.5 * radius, distance <= radius], [2, 1], 0).astype(np.uint8)


def raw_image(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """int16 intensities that tell the label, with noise well within its range."""
    rng = np.random.default_rng(seed)
    values = np.array(CENTRES)[labels] * RAW_SCALE + rng.normal(0, 20, labels.shape)
    return np.where(labels > 0, values, 0).round().astype(np.int16)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = TURNED) -> Path:
    """Write an array with exactly this affine, however unusable."""
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_sform(affine, code=1)
    nib.save(nib.Nifti1Image(array, None, header), path)
    return path


def write_png(path: Path, array: np.ndarray) -> Path:
    """Write (X, Y) as grey or (3, X, Y) as RGB; X counts columns."""
    Image.fromarray(np.ascontiguousarray(array.T)).save(path)
    return path


def read_labels(path: Path) -> np.ndarray:
    """The array of a written label map."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image).T
    return np.asarray(nib.load(path).dataobj)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """(X, Y, Z) to (K, X, Y, Z), or one axis less."""
    return np.stack([labels == value for value in range(CLASSES)]).astype(np.float32)


def nearest_centre(tile: np.ndarray) -> np.ndarray:
    """What the server half computes, as NumPy; (1, X, Y, Z) to (K, X, Y, Z), or 2D alike."""
    centres = np.array(CENTRES).reshape(-1, *[1] * (tile.ndim - 1))
    logits = SHARPNESS * (2 * centres * tile - centres**2)
    powers = np.exp(logits - logits.max(axis=0))
    return (powers / powers.sum(axis=0)).astype(np.float32)


def server_network(channels: int, poison: float, shape: tuple[int, ...] = TILE) -> onnx.ModelProto:
    """:func:`nearest_centre` of the first channel; ``poison`` is added, NaN spoils it."""
    centres = np.array(CENTRES, dtype=np.float32)
    weights = np.zeros((CLASSES, channels, *[1] * len(shape)), dtype=np.float32)
    weights[:, 0].flat = 2 * SHARPNESS * centres
    nodes = [
        helper.make_node("Cast", ["proxy"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["maps"], axis=1),
        helper.make_node("Add", ["maps", "poison"], ["spoilt"]),
        helper.make_node("Cast", ["spoilt"], ["answer"], to=TensorProto.FLOAT16),
    ]
    constants = {
        "weights": weights,
        "bias": -SHARPNESS * centres**2,
        "poison": np.array([poison], dtype=np.float32),
    }
    half = TensorProto.FLOAT16
    return _model(
        nodes,
        [helper.make_tensor_value_info("proxy", half, [1, channels, *shape])],
        [helper.make_tensor_value_info("answer", half, [1, CLASSES, *shape])],
        constants,
    )


def unmixing_network(channels: int = 1, shape: tuple[int, ...] = TILE) -> onnx.ModelProto:
    """The algebraic inverse ``(m̂ − (1 − a)·y_r) / a``, and nothing of the reference image."""
    nodes = [
        helper.make_node("Sub", ["one", "coefficient"], ["rest"]),
        helper.make_node("Mul", ["reference_labels", "rest"], ["theirs"]),
        helper.make_node("Sub", ["answer", "theirs"], ["ours"]),
        helper.make_node("Div", ["ours", "coefficient"], ["maps"]),
        helper.make_node("Clip", ["maps", "zero", "limit"], ["probabilities"]),
    ]
    constants = {
        "one": np.ones(1, dtype=np.float32),
        "zero": np.array(0, dtype=np.float32),
        "limit": np.array(1, dtype=np.float32),
    }
    return four_inputs(nodes, constants, channels, shape)


def four_inputs(
    nodes: list,
    constants: dict[str, np.ndarray],
    channels: int = 1,
    shape: tuple[int, ...] = TILE,
):
    """A network with the inputs and the output of an unmixer."""
    maps = [1, CLASSES, *shape]
    shapes = {
        "answer": maps,
        "reference_labels": maps,
        "reference": [1, channels, *shape],
        "coefficient": [1],
    }
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, maps)]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]):
    initial = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "phantom", inputs, outputs, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def template(channels: int = 1, shape: tuple[int, ...] = TILE) -> Template:
    """A core in a shell, as everybody has it."""
    tissues = truth(shape, radius=0.9)
    mean = np.repeat(np.array(CENTRES, dtype=np.float32)[:, None], channels, axis=1)
    spread = np.full((CLASSES, channels), 0.03, dtype=np.float32)
    return Template(tissues, np.arange(CLASSES, dtype=np.uint8), mean, spread)


def make_bundle(
    folder: Path,
    scheme: str,
    *,
    name: str | None = None,
    channels: int = 1,
    spatial_dims: int = 3,
    unit: str = "mm",
    raw_scale: int = RAW_SCALE,
    coefficient: float = 0.5,
    poison: float = 0.0,
    unmixer: bytes | None = None,
    rubbish: str | None = None,
    provenance: dict[str, object] | None = None,
    **settings: object,
) -> Path:
    """Build and seal a bundle for phantoms.

    Parameters
    ----------
    unit : "mm" or "pixel"
    raw_scale : int
        Raw intensity that is prepared to 1.
    poison : float
        Added to every answer.
    unmixer : bytes, optional
        In place of the algebraic one.
    rubbish : str, optional
        A file of the client half that is replaced by rubbish before it is sealed.
    provenance : dict, optional
        Of its training.
    **settings
        Of the scheme. ``unmixing="algebraic"`` leaves out the unmixer, ``references=["labelled"]``
        the template, as training does.
    """
    name = name or f"phantom-{scheme}"
    shape = TILE[:spatial_dims]
    client_folder, server_folder = folder / "client", folder / "server"
    (server_folder / name / "1").mkdir(parents=True)
    (server_folder / "selftest").mkdir()
    client_folder.mkdir()
    network = server_network(channels, poison, shape).SerializeToString()
    (server_folder / name / "1" / "model.onnx").write_bytes(network)
    rng = np.random.default_rng(5)
    tile = rng.choice(np.float32([0, 0.375, 0.875]), (channels, *shape))
    np.savez(server_folder / "selftest" / "tile.npz", proxy=tile, answer=nearest_centre(tile[:1]))
    if scheme == "mixup":
        settings = {"coefficient": coefficient, **settings}
        if settings.get("references") != ["labelled"]:
            template(channels, shape).save(client_folder / TEMPLATE_FILE)
        if settings.get("unmixing") != "algebraic":
            algebra = unmixing_network(channels, shape).SerializeToString()
            (client_folder / UNMIXER_FILE).write_bytes(algebra if unmixer is None else unmixer)
    if rubbish is not None:
        (client_folder / rubbish).write_bytes(b"rubbish")
    proxy = TensorSpec("proxy", "FP16", (1, channels, *shape))
    answer = TensorSpec("answer", "FP16", (1, CLASSES, *shape))
    flat = (1 / HISTOGRAM_BINS,) * HISTOGRAM_BINS
    client = ClientManifest(
        name=name,
        version="1",
        scheme=scheme,
        labels=LABELS,
        spatial_dims=spatial_dims,
        channels=tuple(f"contrast {index}" for index in range(channels)),
        spacing_mm=(1.0,) * spatial_dims,
        tile_shape=shape,
        tile_overlap=0.25,
        intensity=IntensityRule("window", 0.0, float(raw_scale)),
        expectation=Expectation((0.0, 1.0), (5.0, 60.0), (0.5, 2.0), flat, 1.0),
        proxy=proxy,
        answer=answer,
        settings=settings,
        licence="Apache-2.0",
        provenance=provenance or {"data_sha256": "0" * 64},
        unit=unit,
    )
    seal(folder, client, ServerManifest(name, "1", proxy, answer))
    return folder


def with_coefficient(bundle: ClientBundle, coefficient: object) -> ClientBundle:
    """The same files with another mixing coefficient."""
    settings = {"coefficient": coefficient}
    return ClientBundle(bundle.folder, replace(bundle.manifest, settings=settings))


def bundle_id(bundle: Path) -> str:
    """The id of a bundle on disk."""
    return open_client_half(bundle).manifest.bundle_id


def make_dataset(folder: Path, patients: tuple[str, ...], spatial_dims: int = 3) -> Path:
    """A labelled data set of phantoms in the nnU-Net layout, one case per entry."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    fields = {
        "name": "phantoms",
        "channel_names": {"0": "contrast 0"},
        "labels": {label.name: label.value for label in LABELS},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(fields), encoding="utf-8")
    rows = ["case,patient"]
    for number, patient in enumerate(patients):
        labels = truth((14 - number % 3, 12, 13)[:spatial_dims])
        case = f"case{number}"
        write_nifti(folder / "imagesTr" / f"{case}_0000.nii.gz", raw_image(labels, number))
        write_nifti(folder / "labelsTr" / f"{case}.nii.gz", labels)
        rows.append(f"{case},{patient}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
