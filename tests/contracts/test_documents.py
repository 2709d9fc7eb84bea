"""What documents say is what ``results/`` and the tree hold."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from evidence import blocks, plots, summaries, together
from evidence.jobs import PUBLISHED, SHIPPED
from evidence.places import default_places

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
COMMIT = re.compile(r"[0-9a-f]{40}( \(modified\))?")
README_BLOCKS = [
    *("accuracy", "demo", "encoding-finding", "encodings", "overhead", "site"),
    *("training-time", "verdicts"),
]
PLACES = default_places()
PAGES = ROOT / "docs"


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def blocks_of(path: Path) -> list[str | None]:
    return [match[2] for match in blocks.BLOCK.finditer(path.read_text(encoding="utf-8"))]


def manifest(bundle: str) -> dict:
    return json.loads((PLACES.models / bundle / "client" / "manifest.json").read_text())


def test_figures_in_documents_are_those_of_results():
    for path, bundle in blocks.documents(PLACES).items():
        text = path.read_text(encoding="utf-8")
        assert "<!-- figures" in text, f"{path} states no figures"
        rendered = blocks.rendered(text, PLACES, bundle)
        assert text == rendered, f"{path}: run python scripts/figures.py"


def test_documents_show_every_block():
    readme = blocks_of(ROOT / "README.md")
    assert sorted(readme) == README_BLOCKS
    pages = (PAGES / name for name in blocks.PAGES)
    shown = [*readme, *(name for page in pages for name in blocks_of(page))]
    assert set(shown) == set(blocks.BLOCKS)


@pytest.mark.parametrize("name", plots.PLOTS)
def test_plot_was_drawn_from_the_results_as_they_are(name):
    sources, _ = plots.PLOTS[name]
    found = plots.recorded(PLACES, name)
    # A plot may be missing where its results say nothing of what it shows; never the reverse.
    assert found in (PLACES.digest(sources), None), f"{name}.png: run python scripts/figures.py"


def test_every_picture_is_shown_and_every_shown_picture_is_there():
    shown = {
        (path.parent / target).resolve()
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for target in LINK.findall(path.read_text(encoding="utf-8"))
        if target.endswith(".png")
    }
    assert shown == set((ROOT / "docs" / "images").iterdir())


@pytest.mark.parametrize("name", sorted({*SHIPPED, *PUBLISHED}))
def test_results_name_commit_data_and_bundle(name):
    result = PLACES.load(name)
    if result is None:
        pytest.skip("not measured yet")
    if name in SHIPPED:
        assert result["bundle_id"] == manifest(name)["bundle_id"], "measured on another bundle"
        assert result["data_sha256"] == manifest(name)["provenance"]["data_sha256"]
    assert COMMIT.fullmatch(result["commit"])
    assert result["n_cases"] <= len(result["cases"])
    assert re.fullmatch(r"[0-9a-f]{64}", result["data_sha256"])
    assert result["steps"] == result["provenance"]["steps"] > 0
    assert result["seed"] == result["provenance"]["seed"]
    low, high = result["interval"]
    assert low <= result["mean_dice"] <= high


@pytest.mark.parametrize("file", sorted(PLACES.results.glob("*.json")), ids=lambda f: f.stem)
def test_every_result_names_its_commit(file):
    found = json.loads(file.read_text(encoding="utf-8"))
    entries = found["experiments"] if file.stem == "experiments" else [found]
    assert all(COMMIT.fullmatch(entry["commit"]) for entry in entries)


@pytest.mark.parametrize("name", ["margins", "curve", "mixtures", "brain-tissue"])
def test_summaries_name_the_commits_and_data_of_their_sources(name):
    found = PLACES.load(name)
    if found is None:
        pytest.skip("not measured yet")
    assert COMMIT.fullmatch(found["commit"])
    for entry in found["comparisons"].values() if name == "margins" else [found]:
        assert re.fullmatch(r"[0-9a-f]{64}", entry["data_sha256"])
        for source in entry["sources"].values():
            assert COMMIT.fullmatch(source["commit"])
            assert {"bundle_id", "steps", "seed"} <= source.keys()


def test_what_sites_reach_together_is_of_the_results_beside_it():
    found = together.centers(PLACES.load)
    published = PLACES.load(together.RESULT)
    assert (found is None) == (published is None)
    assert {**(published or {}), "commit": None} == {**(found or {}), "commit": None}
    for entry in (published or {"sets": {}})["sets"].values():
        assert all(COMMIT.fullmatch(source["commit"]) for source in entry["sources"].values())


def test_margins_are_of_the_results_beside_them():
    found = summaries.margins(PLACES.load)
    assert {**(PLACES.load("margins") or found), "commit": None} == {**found, "commit": None}


def test_plain_and_mixup_had_the_same_network_data_and_steps():
    for name in SHIPPED:
        if name.endswith("-plain"):
            plain, mixup = manifest(name), manifest(name.replace("-plain", "-mixup"))
            fields = ["data_sha256", "fold", "batch", "seed", "split", "precision", "torch"]
            start = mixup["provenance"]["init"]
            if start is None:
                fields.append("steps")
            else:  # what it went on from is what it is compared with (decision 0028)
                assert start["bundle_id"] == plain["bundle_id"]
            for field in fields:
                assert plain["provenance"][field] == mixup["provenance"][field], field
            assert plain["tile_shape"] == mixup["tile_shape"]
            # What only a mixture has is not in plain's recipe to differ by, but may be named.
            for field in ("learning_rate", "cropped_share"):
                recipes = [one["provenance"]["recipe"][field] for one in (plain, mixup)]
                assert recipes[0] == recipes[1], field


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
