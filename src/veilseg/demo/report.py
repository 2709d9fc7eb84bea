"""The demo's report: one self-contained HTML page for people, one JSON file for scripts."""

import base64
import html
import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from veilseg.demo.pictures import comparison, overview
from veilseg.demo.run import DemoResult
from veilseg.errors import OutputNotWritable

FILES = ("report.html", "report.json", "overview.png")

ROW_NAMES = {
    "plain": "plain",
    "private": "mixture, recovered at the site",
    "encoded": "encoding, recovered at the site",
    "answer_separation": "read off its answer to the mixture by the server",
    "alike_tokens": "like tokens in its answer to the encoding, if it is told what each group is",
    "reference_alone": "the reference's labels alone (knows nothing of the patient)",
}


def write_report(result: DemoResult, out: Path) -> None:
    """Write report.html, report.json and overview.png into ``out``, replacing an earlier run.

    Raises
    ------
    OutputNotWritable
        If ``out`` cannot be written, or is a folder that holds something else.
    """
    require_replaceable(out)
    picture = overview(result)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".veilseg-", dir=out.parent))
    except OSError as error:
        raise OutputNotWritable(f"{out}: cannot be written: {error.strerror}") from error
    try:
        page = _page(result, picture)
        (staging / "report.html").write_text(page, encoding="utf-8")
        text = json.dumps(result.figures, indent=2) + "\n"
        (staging / "report.json").write_text(text, encoding="utf-8")
        (staging / "overview.png").write_bytes(base64.b64decode(picture))
        staging.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_replaceable(out: Path) -> None:
    """Refuse to replace a folder that is not an earlier report."""
    if not out.exists():
        return
    foreign = [] if out.is_dir() else [out]
    if out.is_dir():
        foreign = [path for path in out.iterdir() if path.name not in FILES]
    if foreign:
        raise OutputNotWritable(f"{foreign[0]}: is not of an earlier demo; choose another --out")


def _page(result: DemoResult, picture: str) -> str:
    figures = result.figures
    per_class = figures["dice_per_class"]
    tissues = list(per_class["plain"])
    rows = []
    for key, name in ROW_NAMES.items():
        scores = [per_class[key][tissue] for tissue in tissues]
        cells = "".join(f"<td>{score:.3f}</td>" for score in [*scores, sum(scores) / len(scores)])
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    warnings = "".join(f"<p>Warning: {html.escape(text)}</p>" for text in figures["warnings"])
    page = resources.files("veilseg.demo").joinpath("page.html").read_text(encoding="utf-8")
    return page.format(
        plain=html.escape(result.plain.bundle.manifest.name),
        private=html.escape(result.private.bundle.manifest.name),
        encoded=html.escape(result.encoded.bundle.manifest.name),
        overview=picture,
        comparison=comparison(result),
        tissue_heads="".join(f"<th>{html.escape(name)}</th>" for name in tissues),
        rows="\n".join(rows),
        costs="\n".join(_costs(figures)),
        separation=figures["answer_separation_dice"],
        chance=figures["reference_alone_dice"],
        private_dice=figures["dice_private"],
        alike=figures["alike_tokens_dice"],
        warnings=warnings,
    )


def _costs(figures: dict[str, Any]) -> Iterator[str]:
    """Rows of a table: seconds and megabytes of each scheme."""
    # What was sent as a mixture has the names that scripts read.
    of_scheme = {"seconds": ("_plain", "_private", "_encoded"), "bytes": ("_plain", "", "_encoded")}
    for name, key, kind in (
        ("seconds, reading to labels", "seconds", "seconds"),
        ("megabytes sent", "bytes_sent", "bytes"),
        ("megabytes received", "bytes_received", "bytes"),
    ):
        unit = 1 if kind == "seconds" else 1e6
        values = [figures[f"{key}{scheme}"] / unit for scheme in of_scheme[kind]]
        cells = "".join(f"<td>{value:.2f}</td>" for value in values)
        yield f"<tr><td>{name}</td>{cells}</tr>"
