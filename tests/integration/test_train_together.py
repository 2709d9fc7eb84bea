"""Several sites train one network: real processes, killed and restarted."""

import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from databases import empty_database, postgresql  # noqa: F401 - a fixture
from typer.testing import CliRunner

from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.main import app
from veilseg.collaboration import fits, projects
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.shards import ShardPairs
from veilseg.collaboration.tables import Contribution, Shard
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.runtime import OnnxModel

pytestmark = pytest.mark.usefixtures("remembered_exports")

SITES = ("north", "south")
# After a few steps of the segmenter classes are tied: rounding decides, and no self-test passes.
STEPS = {"encoding": 4, "mixup": 16}
STEPS_COMPARED = 100  # of fits whose curves are compared
# Shards so small that a contribution has many of them; the process' own default is for real data.
SMALL_SHARDS = (
    "import sys, veilseg.contribution as c; c.TARGET_SHARD_BYTES = 4 * {pair};"
    "from veilseg.cli.main import main; main()"
)


def run(*arguments, **more):
    """The command as a process of its own; gives standard output."""
    command = [sys.executable, "-m", "veilseg.cli.main", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, **more)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set for each site, of other people."""
    folder = tmp_path_factory.mktemp("sites")
    return {
        site: phantoms.make_dataset(folder / site, tuple(f"{site}{n:02d}" for n in range(8)))
        for site in SITES
    }


@pytest.fixture(scope="module")
def bundles(data, tmp_path_factory):
    """What one site trained and gave to the others, and its server half to the provider."""
    folder = tmp_path_factory.mktemp("bundles")
    for scheme, steps in STEPS.items():
        options = ["--scheme", scheme, "--steps", steps, "--out", folder / scheme]
        done = CliRunner().invoke(app, list(map(str, ["train", data["north"], *options])))
        assert done.exit_code == 0, done.output
    return folder


class Provider:
    """The collaboration service as a process that can be killed, on a port of its own."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "veilseg.cli.main", "project", "serve"),
                *("--store", str(self.store), "--port", str(self.port)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return
        raise AssertionError("the service did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def token(self, project: str, site: str, folder: Path) -> Path:
        file = folder / f"{project}-{site}.token"
        file.touch(mode=0o600)
        file.write_text(run("project", "invite", project, site, "--store", self.store))
        return file

    def database(self) -> Database:
        file = f"sqlite:///{self.store / 'collaboration.sqlite'}"
        return Database(os.environ.get("VEILSEG_DATABASE", file))


@pytest.fixture
def provider(tmp_path):
    made = Provider(tmp_path / "store")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def contribution(provider, data, bundle, project, site, token, *more):
    """Arguments of the command by which a site contributes."""
    options = ["--project", project, "--server", provider.url, "--bundle", bundle]
    return ["contribute", data[site], *options, "--token-file", token, *more]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("scheme", "database"),
    [
        ("encoding", "sqlite"),
        pytest.param("mixup", "sqlite", marks=pytest.mark.long),
        pytest.param("encoding", "postgresql", marks=pytest.mark.long),
    ],
)
def test_two_sites_contribute_and_use_what_was_fitted(
    veilseg, start_server, provider, data, bundles, tmp_path, scheme, database, request, monkeypatch
):
    if database == "postgresql":
        url = empty_database(request.getfixturevalue("postgresql"))
        monkeypatch.setenv("VEILSEG_DATABASE", url)
    bundle = bundles / scheme
    store = ["--store", provider.store]
    out = run("project", "create", "p", "--bundle", bundle, *store)
    assert out == f"p: {scheme}, model {scheme}, version 1\n"
    provider.start()
    tokens = {site: provider.token("p", site, tmp_path) for site in SITES}
    for site in SITES:
        more = ["--views", 2]
        if scheme == "mixup":
            vault = tmp_path / f"vault-{site}"
            assert veilseg("site", "init", vault, "--bundle", bundle).code == 0
            more += ["--vault", vault]
        ended = veilseg(*contribution(provider, data, bundle, "p", site, tokens[site], *more))
        assert ended.code == 0, ended.err
        assert "leave this site" in ended.err
        # Five of eight cases are for training, two views of each.
        assert "10 pairs of 5 cases in 1 shards" in ended.out
        again = contribution(provider, data, bundle, "p", site, tokens[site], *more, "--views", 3)
        ended = veilseg(*again)
        assert (ended.code, "people who are in both would count twice" in ended.err) == (2, True)
    steps = STEPS[scheme]
    admin, served = hosting(start_server, provider.store / "models" / "p", tmp_path)
    at = ["--server", served.url, "--token-file", admin]
    out = run("fit", "--project", "p", "--steps", steps, *store, *at)
    version = provider.store / "models" / "p" / "2"
    assert out == f"p: version 2: {version}\n{served.url}: hosts {scheme} version 2\n"
    server = open_server_half(version).manifest
    assert not (version / "client").exists()
    # A site binds the client half that it has, and uses what was fitted.
    member = ["p", "--server", provider.url, "--token-file", tokens["south"]]
    new = tmp_path / "new"
    assert veilseg("project", "pull", *member, "--bundle", bundle, "--out", new).code == 0
    assert open_client_half(new).manifest.bundle_id == server.bundle_id
    image = min((data["south"] / "imagesTr").iterdir())
    result = tmp_path / "labels.nii.gz"
    options = ["--bundle", new, "--server", served.url, "--token-file", admin, "-o", result]
    if scheme == "mixup":
        options += ["--vault", tmp_path / "vault-south", "--allow-repeat"]
    ended = veilseg("segment", image, *options, "--subject", image.name.partition("_")[0])
    assert ended.code == 0, ended.err
    assert nib.load(result).shape == nib.load(image).shape
    # Who has not pulled goes on with the version before, on the same server.
    old = veilseg("segment", image, "--bundle", bundle, *options[2:], "--subject", "x")
    assert old.code == 0, old.err
    ended = veilseg("project", "status", *member)
    assert "version 2" in ended.out
    assert f"fit: done, step {steps} of {steps}" in ended.out
    # One site withdraws: its pairs are deleted and the next fit does without.
    ended = veilseg("project", "withdraw", *member)
    assert "withdrawn, 1 of 1 shards deleted" in ended.out
    away = ["--server", f"http://127.0.0.1:{free_port()}", "--token-file", admin]
    ended = veilseg("fit", "--project", "p", "--steps", steps, *store, *away)
    assert ended.code == 4, ended.err
    again = f"veilseg project host p --store {provider.store}"
    assert f"to have it hosted later: {again}" in ended.out
    hosted = run("project", "host", "p", *store, *at)
    assert hosted == f"{served.url}: hosts {scheme} version 3\n"
    opened = provider.database()
    with opened.session() as session:
        last = session.query(fits.Fit).order_by(fits.Fit.id.desc()).first()
        assert [one["site"] for one in last.manifest] == ["north"]
    opened.close()
    assert (provider.store / "collaboration.sqlite").exists() == (database == "sqlite")
    shards = provider.store / "blobs" / "shards"
    assert len([one for one in shards.rglob("*") if one.is_file()]) == 1


def hosting(start_server, models, folder):
    """A server of a project's versions, and a token that may change what it hosts."""
    tokens, admin = folder / "tokens.json", folder / "admin.token"
    roles = ["--role", "admin", "--role", "infer"]
    run("token", "issue", tokens, "--site", "provider", *roles, "--out", admin)
    return admin, start_server(models=str(models), tokens=str(tokens))


def small(bundle):
    """Python that contributes in shards of four pairs."""
    manifest = open_server_half(bundle).manifest
    values = sum(int(np.prod(one.shape)) for one in (manifest.proxy, manifest.answer))
    return [sys.executable, "-c", SMALL_SHARDS.format(pair=2 * values)]


def received(provider, project):
    """SHA-256 of each shard of a project by its number, and pairs in all."""
    database = provider.database()
    with database.session() as session:
        site = projects.find_site(session, project, "south")
        (one,) = session.query(Contribution).filter_by(site_id=site.id)
        assert one.state == "complete"
        shards = session.query(Shard).filter_by(contribution_id=one.id).all()
        found = {shard.number: shard.sha256 for shard in shards}
        pairs = sum(shard.pairs for shard in shards)
    database.close()
    assert len(found) == len(shards)
    return found, pairs


def announced(provider, project) -> tuple[int, int]:
    """How many shards are there, and how many are to come in all."""
    file = provider.store / "collaboration.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        found = database.execute(
            "SELECT COUNT(shards.id), MAX(planned_shards) FROM projects"
            " JOIN sites ON project_id = projects.id JOIN contributions ON site_id = sites.id"
            " LEFT JOIN shards ON contribution_id = contributions.id WHERE projects.name = ?",
            [project],
        ).fetchone()
    return found[0], found[1] or 0


def interrupted(provider, data, bundles, tmp_path, kills, views):
    """Contribute twice: undisturbed, and with the site or the service killed so many times.

    Every kill meets a contribution of which some shards are there, others than the last time, and
    some are not.
    """
    bundle = bundles / "encoding"
    pairs = views * len(split_by_patient(read_dataset(data["south"])).train)
    for project in ("calm", "stormy"):
        run("project", "create", project, "--bundle", bundle, "--store", provider.store)
    provider.start()
    rng = random.Random(7)
    for project in ("calm", "stormy"):
        token = provider.token(project, "south", tmp_path)
        command = contribution(*(provider, data, bundle, project, "south", token, "--views", views))
        arguments = [*small(bundle), *map(str, command)]
        site, seen = subprocess.Popen(arguments, stderr=subprocess.DEVNULL), 0
        left = kills if project == "stormy" else 0
        while left:
            there, planned = announced(provider, project)
            assert site.poll() is None, f"it was done before it was killed {left} more times"
            if not seen < there < planned:
                time.sleep(0.005)
                continue
            seen, left = there + rng.randrange(planned // (2 * kills)), left - 1
            if left % 2:
                site.kill()
                site.wait()
                site = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
            else:
                provider.kill()
                provider.start()
        assert site.wait(240) == 0
    calm, stormy = (received(provider, project) for project in ("calm", "stormy"))
    assert calm == stormy
    assert calm[1] == pairs
    # On disk as well, each by its SHA-256.
    database = provider.database()
    with database.session() as session:
        manifest = fits.whole_contributions(session, projects.find(session, "stormy"))
    database.close()
    assert len(ShardPairs(manifest, Blobs(str(provider.store / "blobs")), tmp_path)) == pairs


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.timeout(400)
def test_site_or_service_killed_and_resumed(provider, data, bundles, tmp_path):
    interrupted(provider, data, bundles, tmp_path, kills=2, views=50)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.timeout(1200)
def test_site_or_service_killed_ten_times(provider, data, bundles, tmp_path):
    interrupted(provider, data, bundles, tmp_path, kills=10, views=150)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_fit_what_one_does(veilseg, provider, data, bundles, tmp_path):
    bundle = bundles / "encoding"
    store = ["--store", provider.store]
    run("project", "create", "p", "--bundle", bundle, *store)
    provider.start()
    token = provider.token("p", "north", tmp_path)
    assert veilseg(*contribution(provider, data, bundle, "p", "north", token)).code == 0
    launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    fitting = ["fit", "--project", "p", "--steps", str(STEPS_COMPARED), *map(str, store)]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", *launcher, "--nproc-per-node", "2"),
            *("-m", "veilseg.cli.main", *fitting),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("version 2") == 1
    for seed in range(3):
        run(*fitting, "--seed", seed)
    database = provider.database()
    with database.session() as session:
        curves = [
            np.array([point.value for point in one.losses])
            for one in session.query(fits.Fit).order_by(fits.Fit.id)
        ]
    database.close()
    two, *one = curves
    assert len(two) == fits.CURVE_POINTS
    assert two[-1] < 0.8 * two[0]
    # Sums in bf16 are rounded otherwise; another seed begins with other weights and draws others.
    noise = np.mean([np.abs(one[0] - other).mean() for other in one[1:]])
    assert np.abs(two - one[0]).mean() < 0.5 * noise


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.timeout(600)
def test_killed_fit_goes_on(veilseg, provider, data, bundles, tmp_path):
    bundle = bundles / "encoding"
    store = ["--store", provider.store]
    run("project", "create", "p", "--bundle", bundle, *store)
    provider.start()
    token = provider.token("p", "north", tmp_path)
    assert veilseg(*contribution(provider, data, bundle, "p", "north", token)).code == 0
    # Of one thread sums have one order.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    fitting = ["fit", "--project", "p", *store]
    command = [sys.executable, "-m", "veilseg.cli.main", *map(str, fitting), "--steps", "250"]
    checkpoint = provider.store / "fits" / "fit-1" / "checkpoint.safetensors"
    with subprocess.Popen(command, env=alone, stderr=subprocess.DEVNULL) as killed:
        while not checkpoint.is_file():
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    assert not (provider.store / "models" / "p" / "2").exists()
    # It has steps and seed of its own.
    assert "version 2" in run(*fitting, "--resume", "--steps", 7, env=alone)
    assert "version 3" in run(*fitting, "--steps", 250, env=alone)
    database = provider.database()
    with database.session() as session:
        ended = [(one.state, one.step, one.steps) for one in session.query(fits.Fit)]
    database.close()
    assert ended == [("done", 250, 250)] * 2
    resumed, unbroken = (answer_of(provider, bundle, number) for number in (2, 3))
    np.testing.assert_allclose(resumed, unbroken, atol=1e-3)


def answer_of(provider, bundle, number):
    """What a version makes of one encoding that means nothing."""
    shape = open_server_half(bundle).manifest.proxy.shape
    tile = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    version = provider.store / "models" / "p" / str(number)
    return OnnxModel(open_server_half(version).model_file)(proxy=tile)


def test_wrong_input_is_one_line(veilseg, provider, data, bundles, tmp_path, monkeypatch):
    bundle = bundles / "encoding"
    store = ["--store", provider.store]

    def reason(code, *arguments):
        ended = veilseg(*arguments)
        lines = [line for line in ended.err.splitlines() if line.startswith("veilseg: ")]
        assert (ended.code, len(lines)) == (code, 1), ended.err
        return lines[0].removeprefix("veilseg: ")

    line = reason(3, "fit", "--project", "p", *store)
    assert line == "project p: there is none"
    line = reason(3, "project", "create", "No Such", "--bundle", bundle, *store)
    assert "a name has small letters" in line
    assert veilseg("project", "create", "p", "--bundle", bundle, *store).code == 0
    line = reason(3, "project", "create", "p", "--bundle", bundle, *store)
    assert line == "project p: exists already"
    line = reason(3, "fit", "--project", "p", *store)
    assert line == "project p: no whole contribution to fit to"
    assert "has no fit that did not end" in reason(3, "fit", "--project", "p", "--resume", *store)
    monkeypatch.delenv("VEILSEG_TOKEN", raising=False)
    command = contribution(provider, data, bundle, "p", "north", tmp_path / "none")
    assert "cannot be read" in reason(3, *command)
    assert "set VEILSEG_TOKEN" in reason(2, *command[:-2])
    assert "choose train or all" in reason(2, *command, "--split", "half")
    provider.start()
    token = provider.token("p", "north", tmp_path)
    command = contribution(provider, data, bundle, "p", "north", token)
    other = contribution(provider, data, bundles / "mixup", "p", "north", token)
    assert "--vault: mixup needs one" in reason(2, *other)
    key = tmp_path / "needless.key"
    assert veilseg("key", "new", key).code == 0
    assert "was trained without a key" in reason(2, *command, "--key", key)
    token.chmod(0o644)
    assert "open to others" in reason(3, *command)
    token.chmod(0o600)
    token.write_text("wrong")
    assert reason(4, *command).endswith("401 the token is not known here")
    provider.kill()
    monkeypatch.setattr("veilseg.client.projects.RETRIES", 0)
    assert reason(4, *command).startswith(provider.url)
