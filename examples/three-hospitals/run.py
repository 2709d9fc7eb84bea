"""Three hospitals train one network that none of their images reached, in processes of their own.

Each alone, all together on protected pairs, and what pooling raw images would give. Ends with a
table, ``report.json`` and ``centers.png``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hospitals
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient

UNSEEN = 6  # patients of each hospital, to measure by
TOGETHER, POOLED = "together, protected", "pooled raw images"


def veilseg(*arguments: Any) -> str:
    """One command; a failure ends everything with its own line."""
    command = [sys.executable, "-m", "veilseg.cli.main", *map(str, arguments)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"veilseg {arguments[0]} failed")
    return ended.stdout


@contextmanager
def provider(store: Path) -> Iterator[str]:
    """The collaboration service, as a process of its own; gives its address."""
    command = [sys.executable, "-m", "veilseg.cli.main", "project", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--store", str(store)], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        line = next(line for line in service.stdout if line.startswith("listening on "))
        try:
            yield line.removeprefix("listening on ").strip()
        finally:
            service.terminate()


def token_file(out: Path, store: Path, project: str, site: str) -> Path:
    """A site's token, as the provider would hand it over."""
    token = veilseg("project", "invite", project, site, "--store", store)
    file = out / f"{project}-{site}.token"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
        stream.write(token)
    return file


def fitted(
    out: Path, data: dict[str, Path], bundle: Path, project: str, sites: list[str], steps: int
) -> Path:
    """A project of some sites: they contribute at once, the provider fits, one of them pulls."""
    store = out / "provider"
    veilseg("project", "create", project, "--bundle", bundle, "--store", store)
    with provider(store) as url:
        tokens = {site: token_file(out, store, project, site) for site in sites}

        def contribute(site: str) -> None:
            at = ["--project", project, "--server", url, "--token-file", tokens[site]]
            veilseg("contribute", data[site], *at, "--bundle", bundle)

        with ThreadPoolExecutor() as pool:
            list(pool.map(contribute, sites))
        veilseg("fit", "--project", project, "--store", store, "--steps", steps)
        pulled = out / "bundles" / project
        at = ["--server", url, "--token-file", tokens[sites[0]], "--bundle", bundle]
        veilseg("project", "pull", project, *at, "--out", pulled)
    # To be measured, both halves have to be in one place; in use they never are.
    shutil.copytree(store / "models" / project / "2" / "server", pulled / "server")
    return pulled


def pooled(out: Path, data: dict[str, Path]) -> Path:
    """All images in one folder, as no hospital would give them.

    The split goes by the order of names: those come first on whom the hospitals train, so that the
    same patients are trained on in whichever way.
    """
    folder = out / "data" / "pooled"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    rows = ["case,patient,site"]
    for source in data.values():
        split = split_by_patient(read_dataset(source))
        order = {
            case.name: place
            for place, cases in enumerate((split.train, split.validation, split.test))
            for case in cases
        }
        for part in ("imagesTr", "labelsTr"):
            for file in (source / part).iterdir():
                case = file.name.partition(".")[0].removesuffix("_0000")
                shutil.copy(file, folder / part / f"{order[case]}-{file.name}")
        own = (source / "cases.csv").read_text().split()[1:]
        rows += [f"{order[row.partition(',')[0]]}-{row}" for row in own]
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(source / "dataset.json", folder)
    return folder


def dice(bundle: Path, folder: Path, out: Path) -> float:
    """Mean foreground Dice of patients whom no network has seen."""
    file = out / "evaluation.json"
    veilseg("evaluate", bundle, folder, "--json", file)
    return float(json.loads(file.read_text())["mean_dice"])


def draw(table: dict[str, dict[str, float]], sites: list[str], file: Path) -> None:
    """One group of bars for each way to train."""
    figure, axes = plt.subplots(figsize=(9, 4))
    width = 0.8 / len(sites)
    for number, site in enumerate(sites):
        at = np.arange(len(table)) + (number - (len(sites) - 1) / 2) * width
        bars = axes.bar(at, [row[site] for row in table.values()], width, label=f"on {site}")
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(table)), list(table))
    axes.set_ylabel("Dice on unseen patients")
    axes.set_ylim(0, 1.1)
    # Above: bars of any height leave no room inside.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=len(sites), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run everything into a folder that is replaced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("three-hospitals-out"))
    parser.add_argument("--patients", type=int, default=20, help="of each hospital")
    parser.add_argument("--steps", type=int, default=400, help="of each fit")
    asked = parser.parse_args()
    out: Path = asked.out
    shutil.rmtree(out, ignore_errors=True)
    sites = list(hospitals.SCANNERS)
    data = {site: hospitals.make(out / "data" / site, site, asked.patients) for site in sites}
    unseen = {
        site: hospitals.make(out / "data" / f"{site}-unseen", site, UNSEEN, seed=1)
        for site in sites
    }
    bundle = out / "bundles" / "organ"
    veilseg(
        "train", data[sites[0]], "--scheme", "encoding", "--steps", asked.steps, "--out", bundle
    )
    bundles = {
        f"{site} alone": fitted(out, data, bundle, f"only-{site}", [site], asked.steps)
        for site in sites
    }
    bundles[TOGETHER] = fitted(out, data, bundle, "all", sites, asked.steps)
    plain = out / "bundles" / "pooled"
    veilseg(
        *("train", pooled(out, data), "--scheme", "plain"),
        *("--steps", asked.steps, "--out", plain),
    )
    bundles[POOLED] = plain
    table = {
        way: {site: dice(trained, unseen[site], out) for site in sites}
        for way, trained in bundles.items()
    }
    (out / "report.json").write_text(json.dumps(table, indent=2) + "\n")
    draw(table, sites, out / "centers.png")
    print(f"{'trained on':24}" + "".join(f"{'on ' + site:>12}" for site in sites))
    for way, row in table.items():
        print(f"{way:24}" + "".join(f"{row[site]:12.3f}" for site in sites))
    print(f"{out / 'report.json'}, {out / 'centers.png'}")


if __name__ == "__main__":
    main()
