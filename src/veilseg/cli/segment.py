"""``veilseg segment``."""

import contextlib
import glob
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from veilseg.bundle import ClientBundle, open_client_half, open_server_half
from veilseg.cli.local import LocalServer
from veilseg.cli.progress import progress
from veilseg.client.pipeline import Segmented, channel_files, segment
from veilseg.client.processor import TileProcessor
from veilseg.client.remote import RemoteServer
from veilseg.errors import InvalidInput, OutputNotWritable, VeilsegError, WrongUsage
from veilseg.files import write_text_whole
from veilseg.imaging.nifti import write_array, write_label_map
from veilseg.payload import Proxy
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.client import Unmixing
from veilseg.schemes.registry import NEEDS_VAULT, client_half
from veilseg.vault.vault import KEY_BYTES, Vault

NIFTI_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Request:
    """Options of ``veilseg segment``, as typed."""

    images: list[Path]
    bundle: Path
    out: Path
    server: str | None
    vault: Path | None
    subject: str | None
    allow_repeat: bool
    local: bool
    unmixing: str
    save_proxy: Path | None
    timeout_s: float
    json_file: Path | None


def segment_all(request: Request) -> None:
    """Segment every image; one that fails does not keep the others from being done.

    Raises
    ------
    VeilsegError
        After all images were tried, of the type of the first failure.
    """
    _require_sensible(request)
    outputs = _outputs(request)
    bundle = open_client_half(request.bundle)
    failures: list[VeilsegError] = []
    results: list[dict[str, Any]] = []
    with (
        _vault(request, bundle) as vault,
        _processor(request, bundle) as processor,
        progress("segmenting") as show,
    ):
        unmixing: Unmixing = "algebraic" if request.unmixing == "algebraic" else "learned"
        half = client_half(bundle, vault, unmixing)
        for index, (image, output) in enumerate(zip(request.images, outputs, strict=True)):
            note = f"{image.name} ({index + 1} of {len(outputs)})"
            job = _Job(request, bundle, half, vault, processor)
            try:
                found = job.run(image, output, lambda done, total, n=note: show(done, total, n))
            except VeilsegError as failure:
                failures.append(_naming(image, failure))
                if len(outputs) > 1:
                    print(f"veilseg: {failures[-1]}", file=sys.stderr)
                continue
            results.append({"image": str(image), "output": str(output), **found})
    if request.json_file is not None:
        document = {
            "bundle": bundle.manifest.name,
            "bundle_id": bundle.manifest.bundle_id,
            "scheme": bundle.manifest.scheme,
            "images": results,
        }
        write_text_whole(request.json_file, json.dumps(document, indent=2) + "\n")
    if failures and len(outputs) == 1:
        raise failures[0]
    if failures:
        # Each was told when it happened; the first decides the exit code.
        summary = f"{len(failures)} of {len(outputs)} images failed, see above"
        raise type(failures[0])(summary) from failures[0]


@dataclass(frozen=True)
class _Job:
    """What all images of a request share."""

    request: Request
    bundle: ClientBundle
    half: ClientHalf
    vault: Vault | None
    processor: TileProcessor

    def run(self, image: Path, output: Path, report: Any) -> dict[str, Any]:
        manifest = self.bundle.manifest
        files = channel_files(image, manifest)
        subject = self.request.subject or _stem(image)

        def before_sending(proxy: Proxy) -> None:
            if self.vault is not None and not self.request.local:
                count = self.vault.record(subject, proxy.digest(), self.request.allow_repeat)
                if count > 1:
                    print(
                        f"veilseg: {image}: warning: this server now has {count} different proxies "
                        "of this subject and can average them",
                        file=sys.stderr,
                    )
            if self.request.save_proxy is not None:
                write_array(self.request.save_proxy, proxy.array)

        traffic = _traffic(self.processor)
        result = segment(
            files, subject, manifest, self.half, self.processor, before_sending, report
        )
        for warning in result.warnings:
            print(f"veilseg: {image}: warning: {warning}", file=sys.stderr)
        write_label_map(output, result.labels)
        print(f"{output}: {_volumes(result)}")
        sent, received = np.subtract(_traffic(self.processor), traffic).tolist()
        return {
            "volumes_ml": {name: round(ml, 4) for name, ml in result.volumes_ml.items()},
            "warnings": result.warnings,
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
            "bytes_sent": sent,
            "bytes_received": received,
        }


def _naming(image: Path, error: VeilsegError) -> VeilsegError:
    """The same error, its message beginning with the image unless it does so already."""
    beginning = str(image.with_name(_stem(image)))
    return error if str(error).startswith(beginning) else type(error)(f"{image}: {error}")


def _require_sensible(request: Request) -> None:
    if request.local == (request.server is not None):
        raise WrongUsage("give either --server URL or --local")
    if request.unmixing not in get_args(Unmixing):
        raise WrongUsage(f"--unmixing {request.unmixing}: choose learned or algebraic")
    if len(request.images) > 1 and request.subject is not None:
        raise WrongUsage("--subject: names one image; segment several subjects one by one")
    if len(request.images) > 1 and request.save_proxy is not None:
        raise WrongUsage("--save-proxy: takes one image at a time")
    if request.save_proxy is not None and not request.save_proxy.name.endswith(NIFTI_ENDINGS):
        raise WrongUsage(f"{request.save_proxy}: --save-proxy must end in .nii.gz or .nii")


def _outputs(request: Request) -> list[Path]:
    """Where each result goes: refused before work starts if it would be lost or overwrite."""
    if len(request.images) == 1 and request.out.name.endswith(NIFTI_ENDINGS):
        outputs = [request.out]
    else:
        if request.out.name.endswith(NIFTI_ENDINGS):
            raise WrongUsage(f"{request.out}: several images need a folder, not a file")
        try:
            request.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{request.out}: cannot be made: {error.strerror}") from error
        outputs = [request.out / f"{_stem(image)}.nii.gz" for image in request.images]
    if len(set(outputs)) < len(outputs):
        raise InvalidInput(
            "two images have the same name: their results would overwrite each other"
        )
    written = [*outputs, *filter(None, (request.save_proxy, request.json_file))]
    if len({path.resolve() for path in written}) < len(written):
        raise InvalidInput(f"{written[-1]}: -o, --save-proxy and --json would overwrite each other")
    for path in written:
        for image in request.images:
            if path.resolve() in _channels_of(image):
                raise InvalidInput(f"{path}: would overwrite the image itself; choose another")
        _require_writable(path)
    return outputs


def _channels_of(image: Path) -> set[Path]:
    """Resolved paths of an image and of its further channels, however many there are."""
    stem, found, ending = image.name.partition("_0000.")
    if not found:
        return {image.resolve()}
    return {path.resolve() for path in image.parent.glob(f"{glob.escape(stem)}_????.{ending}")}


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


@contextlib.contextmanager
def _vault(request: Request, bundle: ClientBundle) -> Iterator[Vault | None]:
    if bundle.manifest.scheme not in NEEDS_VAULT:
        yield None
    elif request.vault is not None:
        with Vault.open(request.vault, bundle.manifest.bundle_id) as vault:
            # A file name need not be the patient id by which a reference of one's own is left out.
            if vault.has_labelled_references and request.subject is None:
                raise WrongUsage(
                    "--subject: say who it is, as in the references' cases.csv: nobody must be "
                    "mixed with their own image"
                )
            yield vault
    elif request.local:
        # Nothing leaves, so nothing has to be secret; a fixed key makes runs repeatable.
        with Vault.in_memory(bytes(KEY_BYTES)) as vault:
            yield vault
    else:
        raise WrongUsage(
            f"--vault: {bundle.manifest.name} needs one; make it with: "
            f"veilseg site init VAULT --bundle {request.bundle}"
        )


@contextlib.contextmanager
def _processor(request: Request, bundle: ClientBundle) -> Iterator[TileProcessor]:
    if request.server is None:
        yield LocalServer(open_server_half(request.bundle))
        return
    with RemoteServer(request.server, bundle.manifest, timeout_s=request.timeout_s) as remote:
        remote.check()
        yield remote


def _traffic(processor: TileProcessor) -> tuple[int, int]:
    if isinstance(processor, RemoteServer):
        return processor.bytes_sent, processor.bytes_received
    return 0, 0


def _stem(image: Path) -> str:
    name = image.name
    for ending in NIFTI_ENDINGS:
        name = name.removesuffix(ending)
    return name.removesuffix("_0000")


def _volumes(result: Segmented) -> str:
    return ", ".join(f"{name} {ml:.2f} ml" for name, ml in result.volumes_ml.items())
