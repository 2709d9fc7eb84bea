"""What documents say is what ``results/`` and the tree hold."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.fixture(scope="module")
def figures():
    path = ROOT / "scripts" / "figures.py"
    spec = importlib.util.spec_from_file_location("figures", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = module
    spec.loader.exec_module(module)
    return module


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_figures_in_documents_are_those_of_results(figures):
    for path, card in figures.documents().items():
        text = path.read_text(encoding="utf-8")
        assert "<!-- figures" in text, f"{path} states no figures"
        assert text == figures.rendered(text, card), f"{path}: run python scripts/figures.py"


def test_readme_has_every_block_once(figures):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(m[2] for m in figures.BLOCK.finditer(text)) == sorted(figures.README_BLOCKS)


def test_empty_block_does_not_swallow_what_follows(figures):
    end = "<!-- /figures -->"
    empty = f"<!-- figures:site -->\n{end}\nkept\n<!-- figures:demo -->\nx\n{end}"
    assert "\nkept\n" in figures.rendered(empty, None)


def test_results_name_commit_data_and_bundle(figures):
    for family in figures.FAMILIES:
        for scheme in ("plain", "mixup"):
            result = figures.load(f"{family}-{scheme}")
            manifest = json.loads(
                (figures.MODELS / f"{family}-{scheme}" / "client" / "manifest.json").read_text()
            )
            assert result["bundle_id"] == manifest["bundle_id"], "measured on another bundle"
            assert result["data_sha256"] == manifest["provenance"]["data_sha256"]
            assert re.fullmatch(r"[0-9a-f]{40}", result["commit"])
            assert result["n_cases"] == len(result["cases"])


def test_plain_and_mixup_had_the_same_network_data_and_steps(figures):
    for family in figures.FAMILIES:
        plain, mixup = (
            json.loads(
                (figures.MODELS / f"{family}-{scheme}" / "client" / "manifest.json").read_text()
            )
            for scheme in ("plain", "mixup")
        )
        for field in ("data_sha256", "steps", "batch", "seed", "split"):
            assert plain["provenance"][field] == mixup["provenance"][field], field
        assert plain["tile_shape"] == mixup["tile_shape"]


def test_links_lead_somewhere():
    for path in tracked("*.md"):
        for target in LINK.findall(path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_no_path_of_a_machine_is_tracked():
    private = re.compile(rb"(?<![\w.])/(home|root|Users|work)/[\w.]")
    for path in tracked():
        if path.suffix in {".npz", ".onnx", ".png"} or path == Path(__file__):
            continue
        assert not private.search(path.read_bytes()), path.relative_to(ROOT)


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
