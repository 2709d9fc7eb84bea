"""MONAI Label's words: what clients are told, what they ask for, and what they get."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import ndimage

from veilseg import __version__
from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import Segmented
from veilseg.client.sizes import sizes
from veilseg.gateway.errors import InvalidRequest
from veilseg.imaging.volume import LabelMap

OUTPUTS: Final = ("all", "json", "image", "dicom_seg")
DICOM_SEG: Final = "dicom_seg"
DICOM_ENDING: Final = ".dcm"
# What results can be written as, and what they are called over HTTP.
MEDIA_TYPES: Final = {
    ".nrrd": "application/octet-stream",
    ".nii.gz": "application/gzip",
    ".nii": "application/octet-stream",
    DICOM_ENDING: "application/dicom",
}
DTYPES: Final = ("uint8", "uint16", "int16")
LONGEST_SUBJECT: Final = 256


@dataclass(frozen=True)
class Wish:
    """What a request for a segmentation asks for.

    Attributes
    ----------
    output : str
        One of :data:`OUTPUTS`.
    ending : str
        Of the result.
    dtype : str
        Of the labels in it.
    subject : str
        Who it is; empty if nobody said.
    allow_repeat : bool
        Send a second, different proxy of the subject.
    client : str
        Which of the programs that share an owner asks; empty if it does not say.
    """

    output: str
    ending: str
    dtype: str
    subject: str
    allow_repeat: bool
    client: str

    @classmethod
    def of(cls, output: str, params: str) -> "Wish":
        """Read what a client sends. What is for other servers (device) is passed over.

        Raises
        ------
        InvalidRequest
            If it is no JSON object, or asks for what there is not.
        """
        try:
            fields = json.loads(params or "{}")
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("params: no JSON") from error
        if not isinstance(fields, dict):
            raise InvalidRequest("params: no JSON object")
        output = output or "all"
        if output not in OUTPUTS:
            raise InvalidRequest(f"output: there is {', '.join(OUTPUTS)}")
        ending = fields.get("result_extension") or ".nii.gz"
        if output == DICOM_SEG:
            ending = DICOM_ENDING
        elif not isinstance(ending, str) or ending not in MEDIA_TYPES or ending == DICOM_ENDING:
            raise InvalidRequest("result_extension: there is .nrrd, .nii.gz, .nii")
        dtype = fields.get("result_dtype") or DTYPES[0]
        if dtype not in DTYPES:
            raise InvalidRequest(f"result_dtype: there is {', '.join(DTYPES)}")
        subject = fields.get("subject") or ""
        if not isinstance(subject, str) or len(subject) > LONGEST_SUBJECT:
            raise InvalidRequest(f"subject: no text of up to {LONGEST_SUBJECT} characters")
        # Slicer's table of options may send what was ticked as text.
        repeat = fields.get("allow_repeat", False) in (True, "true", "True")
        client = str(fields.get("client_id") or "")
        return cls(output, ending, dtype, subject.strip(), repeat, client)


def info(manifests: Sequence[ClientManifest], images: int) -> dict[str, Any]:
    """What ``/info/`` tells: one model per bundle.

    The list of all labels begins with the background, which OHIF takes away; labels of a model
    are those that are found, by value.
    """
    models = {one.name: _model(one) for one in manifests}
    labels = list(dict.fromkeys(label.name for one in manifests for label in one.labels))
    return {
        "name": "Veilseg",
        "description": "Segments on another server without showing it the patient. Research only.",
        "version": __version__,
        "labels": labels,
        "models": models,
        "trainers": {},
        "strategies": {},
        "scoring": {},
        "train_stats": {},
        "datastore": {"total": images, "completed": 0, "label_tags": {}},
    }


def _model(manifest: ClientManifest) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": label_names(manifest),
        "dimension": manifest.spatial_dims,
        "description": f"{manifest.name} {manifest.version}, protected by {manifest.scheme}",
        # Slicer shows these as options and sends them back.
        "config": {"subject": "", "allow_repeat": False},
    }


def label_names(manifest: ClientManifest) -> dict[str, int]:
    """Value of each label but the background."""
    return {label.name: label.value for label in manifest.labels if label.value}


def told(found: Segmented, manifest: ClientManifest) -> dict[str, Any]:
    """What is told of a segmentation beside its voxels."""
    quantity, size = sizes(found.labels, manifest)
    return {
        "label_names": label_names(manifest),
        "centroids": centroids(found.labels, manifest),
        quantity: {name: round(value, 4) for name, value in size.items()},
        "latencies": {name: round(value, 4) for name, value in found.seconds.items()},
        "warnings": found.warnings,
        "model": manifest.name,
        "bundle_id": manifest.bundle_id,
    }


def centroids(labels: LabelMap, manifest: ClientManifest) -> dict[str, list[str]]:
    """For OHIF: of each label that was found its value, and the voxel in its middle."""
    array = labels.array
    present = [one for one in manifest.labels if one.value and (array == one.value).any()]
    everywhere = np.broadcast_to(np.float32(1), array.shape)
    centres = ndimage.center_of_mass(everywhere, array, [one.value for one in present])
    return {
        label.name: [str(label.value), *(str(round(place)) for place in centre)]
        for label, centre in zip(present, centres, strict=True)
    }


def multipart(params: dict[str, Any], name: str, content: bytes, ending: str) -> tuple[bytes, str]:
    """Both parts of an answer as a form, and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        ('name="params"', "application/json", json.dumps(params).encode()),
        (f'name="image"; filename="{name}"', MEDIA_TYPES[ending], content),
    ]
    body = b""
    for which, kind, part in parts:
        head = f"Content-Disposition: form-data; {which}\r\nContent-Type: {kind}"
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + part + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
