"""Figures in README and model cards: rendered from ``results/``, between markers, by one code.

``python scripts/figures.py`` rewrites the blocks; a test checks that they are as rendered.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
MODELS = ROOT / "models"
BLOCK = re.compile(r"(<!-- figures(?::([a-z-]+))? -->\n)(?:.*?\n)??(<!-- /figures -->)", re.DOTALL)
FAMILIES = {"hippocampus": "Hippocampus", "brain-tissue": "Brain tissue"}


def load(name: str) -> dict[str, Any]:
    """One file of results."""
    fields: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return fields


def card_figures(name: str) -> str:
    """Accuracy of one bundle by class."""
    result = load(name)
    low, high = result["interval"]
    lines = [
        f"Held-out test split, {result['n_cases']} images of {result['n_patients']} patients, "
        f"{result['references']} references. Mean foreground Dice **{result['mean_dice']:.3f}** "
        f"(95 % interval over patients {low:.3f} to {high:.3f}).",
        "",
        f"| class | Dice | HD95, mm | surface Dice at {result['surface_tolerance_mm']:g} mm |",
        "| --- | --- | --- | --- |",
    ]
    for label, values in result["per_class"].items():
        lines.append(
            f"| {label} | {values['dice']:.3f} | {values['hd95_mm']:.2f} | {values['nsd']:.3f} |"
        )
    if "algebraic" in result["variants"]:
        lines += ["", f"With algebraic unmixing: {result['variants']['algebraic']:.3f}."]
    return "\n".join(lines)


def accuracy_table() -> str:
    """Plain against private for each family of bundles."""
    margins = load("margins")
    lines = [
        "| unseen patients | plain | private (a = ½, learned) | algebraic | private − plain |",
        "| --- | --- | --- | --- | --- |",
    ]
    for family, title in FAMILIES.items():
        plain, mixup, margin = load(f"{family}-plain"), load(f"{family}-mixup"), margins[family]
        low, high = margin["interval"]
        lines.append(
            f"| {title}, {plain['n_cases']} images of {plain['n_patients']} patients "
            f"| {plain['mean_dice']:.3f} | {mixup['mean_dice']:.3f} "
            f"| {mixup['variants']['algebraic']:.3f} "
            f"| {margin['difference']:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return "\n".join(lines)


def demo_table() -> str:
    """What the demo measured on the MNI152 template."""
    demo = load("demo")
    return "\n".join(
        [
            "| MNI152 template, grey and white matter | Dice |",
            "| --- | --- |",
            f"| plain | {demo['dice_plain']:.3f} |",
            f"| private, recovered at the site | {demo['dice_private']:.3f} |",
            f"| **read off the answer by the server, without the key** "
            f"| {demo['answer_separation_dice']:.3f} |",
            f"| the reference's labels alone (knows nothing of the patient) "
            f"| {demo['reference_alone_dice']:.3f} |",
        ]
    )


def site_sentence() -> str:
    """What a site installs."""
    site = load("site")
    return (
        f"A site's environment takes {site['megabytes']:.0f} MB (no torch); `veilseg --help` "
        f"answers in {site['help_seconds']:.2f} s."
    )


README_BLOCKS: dict[str, Callable[[], str]] = {
    "accuracy": accuracy_table,
    "demo": demo_table,
    "site": site_sentence,
}


def rendered(text: str, card: str | None) -> str:
    """A document with its blocks as ``results/`` has them; ``card`` names the bundle of a card."""

    def block(match: re.Match[str]) -> str:
        body = card_figures(card) if card else README_BLOCKS[match[2]]()
        return f"{match[1]}{body}\n{match[3]}"

    return BLOCK.sub(block, text)


def documents() -> dict[Path, str | None]:
    """Every document with figures, and the bundle whose card it is."""
    cards: dict[Path, str | None] = {
        MODELS / folder.name / "README.md": folder.name for folder in sorted(MODELS.iterdir())
    }
    return {ROOT / "README.md": None, **cards}


if __name__ == "__main__":
    for path, card in documents().items():
        path.write_text(rendered(path.read_text(encoding="utf-8"), card), encoding="utf-8")
