"""Federated averaging with Flower on the sites' data: done where it is not, evaluated, compared.

Of the same cases, network, steps and seed as other ways to train together, and evaluated as they
are. With one site it has to be that site's own training; that is looked at first.
"""

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from federated.federation import DEFINITION, Federation, rounds_done, shares
from onnx import numpy_helper

from evidence.background import run, side_by_side
from evidence.jobs import Training
from evidence.places import ROOT, Places, Result, read, source_state
from evidence.runs import VEILSEG, content_hash, train, trained
from evidence.sites import Centers, at_sites, folder
from evidence.together import part_name
from evidence.versus import WAY, compared, name_of
from veilseg.bundle import open_server_half
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.errors import MissingDependency
from veilseg.training.run import batch_size

SCRIPTS = ROOT / "scripts"
ENVIRONMENT = ROOT / ".venv" / "peers" / "flower"
ROUNDS = 40
# Of the steps: long enough that a difference would show.
CONTROL_SHARE, CONTROL_ROUNDS = 20, 5


def federate(job: Centers, places: Places, again: bool) -> None:
    """Average, evaluate on every site and compare; what is published is not done again.

    Raises
    ------
    MissingDependency
        If Flower's environment is not there and something is left to do.
    """
    here = at_sites(job, places)
    data = {site: here.data / folder(job, site) for site in job.sites}
    published = places.load(name_of(job)) or {}
    wanted = _definition(data, job.steps, ROUNDS, job.seed)
    parts = {site: here.load(part_name(job, WAY, site)) for site in job.sites}
    control = published.get("control")
    if again or control is None or control["of"] != _control_of(job, here):
        control = _controlled(job, here)
    if again or any(one is None or one["fit"]["of"] != wanted for one in parts.values()):
        parts = _evaluated(job, here, data)
    places.store(name_of(job), compared(job, parts, control, here.load))


def _evaluated(job: Centers, here: Places, data: Mapping[str, Path]) -> dict[str, Result]:
    name = f"{job.name}-{WAY}"
    fit = _averaged(here, name, data, job.steps, ROUNDS, job)
    found = {}
    for site in job.sites:
        commit = source_state()
        one = _evaluation(here, name, here.data / folder(job, site, "test"), f"{name}-on-{site}")
        found[site] = {**one, "fit": fit, "commit": commit}
        here.store(part_name(job, WAY, site), found[site])
    return found


def _evaluation(here: Places, bundle: str, data: Path, name: str) -> Result:
    file = here.evaluation(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    run(*VEILSEG, "evaluate", here.bundle(bundle), data, "--json", file)
    return read(file) or {}


def _averaged(
    here: Places, name: str, data: Mapping[str, Path], steps: int, rounds: int, job: Centers
) -> Result:
    """Do the rounds that are left, and write the bundle; what it is, and what it cost."""
    at = (here.work / "federations" / name).resolve()
    wanted = _definition(data, steps, rounds, job.seed)
    record = at / DEFINITION
    if not record.is_file() or Federation.read(at).describe() != wanted:
        shutil.rmtree(at, ignore_errors=True)
        told = {"data": {site: str(one.resolve()) for site, one in data.items()}, **wanted}
        _first_site("begin", at, "--told", json.dumps(told))
    if len(rounds_done(at)) < wanted["rounds"]:
        _rounds(at, list(data))
    bundle = here.bundle(name)
    shutil.rmtree(bundle, ignore_errors=True)
    _first_site("finish", at, "--out", str(bundle.resolve()), "--licence", job.data.licence)
    # As Site has it: a step's examples.
    batch = batch_size(tuple(Federation.read(at).plan["tile_shape"]))
    return {"of": wanted, "batch": batch, "cores": os.cpu_count(), **cost(rounds_done(at))}


def cost(rounds: list[Result]) -> Result:
    """Seconds, and bytes of each site both ways, over all rounds."""
    sites = {
        site: {way: sum(one["sites"][site][way] for one in rounds) for way in ("received", "sent")}
        for site in rounds[0]["sites"]
    }
    return {"seconds": round(sum(one["seconds"] for one in rounds), 1), "sites": sites}


def _rounds(at: Path, sites: list[str]) -> None:
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        raise MissingDependency(f"no environment {ENVIRONMENT.name}: make bench-families")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    programs = SCRIPTS / "federated"
    trained_by = ("--python", sys.executable)
    side_by_side(
        (python, programs / "server.py", at, "--address", address),
        *((python, programs / "client.py", at, s, "--server", address, *trained_by) for s in sites),
        environment={
            "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{ROOT / 'src'}",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_HOME": str(at / "flower"),
            # All sites train at the same time, on this machine.
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(sites))),
        },
    )


def _first_site(*words: str | Path) -> None:
    run(sys.executable, "-m", "federated.first_site", *words, cwd=SCRIPTS)


def _definition(data: Mapping[str, Path], steps: int, rounds: int, seed: int) -> Result:
    """As :meth:`Federation.describe`; no more rounds than the site with the fewest steps has."""
    cases = {site: len(split_by_patient(read_dataset(one)).train) for site, one in data.items()}
    return {
        "data_sha256": {site: content_hash(one) for site, one in data.items()},
        "cases": cases,
        "steps": steps,
        "rounds": min(rounds, *shares(cases, steps).values()),
        "seed": seed,
    }


def _control_of(job: Centers, here: Places) -> Result:
    data = {job.sites[0]: here.data / folder(job, job.sites[0])}
    steps = max(1, job.steps // CONTROL_SHARE)
    return _definition(data, steps, CONTROL_ROUNDS, job.seed)


def _controlled(job: Centers, here: Places) -> Result:
    """One site averaged with nobody, beside its own training: weights, and Dice on its patients."""
    site, wanted = job.sites[0], _control_of(job, here)
    own = replace(job.data, folder=folder(job, site), fold="")
    local = Training(f"{job.name}-{WAY}-local", own, "plain", wanted["steps"], job.seed)
    train(local, here)
    alone = trained(local, here) or here.bundle(local.name)
    name = f"{job.name}-{WAY}-control"
    data = {site: here.data / own.folder}
    _averaged(here, name, data, wanted["steps"], wanted["rounds"], job)
    tested = here.data / folder(job, site, "test")
    dice = {
        which: _evaluation(here, bundle, tested, bundle)["mean_dice"]
        for which, bundle in (("local", local.name), ("averaged", name))
    }
    apart = largest_difference(alone, here.bundle(name))
    return {"of": wanted, "site": site, "dice": dice, "largest_weight_difference": apart}


def largest_difference(one: Path, other: Path) -> float:
    """Between the weights that two bundles of the same network serve."""
    first, second = (_weights(bundle) for bundle in (one, other))
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def _weights(bundle: Path) -> dict[str, np.ndarray]:
    model = onnx.load(str(open_server_half(bundle).model_file))
    return {
        one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer
    }


def how_far(job: Centers, places: Places) -> str:
    """How far it is."""
    if places.load(name_of(job)) is not None:
        return "measured"
    at = places.work / "federations" / f"{job.name}-{WAY}"
    done = len(rounds_done(at))
    return f"{done} of {Federation.read(at).rounds} rounds" if done else "waiting"


def jobs(together: Sequence[Centers]) -> dict[str, partial[None]]:
    """By name."""
    return {name_of(job): partial(federate, job) for job in together}
