"""docs/performance.md, from results of the shape that ``veilseg bench`` writes."""

from pathlib import Path

import pytest
from evidence import speed, speed_goals, speed_plots
from evidence.places import Places
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from veilseg.bench import plan
from veilseg.bench.load import Load, medians
from veilseg.bench.record import record, write
from veilseg.bench.rounds import ratio

RATIO = ratio([1.0, 2.0, 3.0], [2.0, 4.5, 6.0])


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "results").mkdir()
    return Places(tmp_path, tmp_path, tmp_path)


def runtime() -> dict:
    ran = {
        "status": "run",
        "median_s": 0.6,
        "speedup": RATIO,
        "agreement": {"largest": 0.1, "mean": 0.01, "same_class": 0.999},
        "dice": {"mean": 0.88, "difference": -0.0002, "interval": [None, None], "n_cases": 2},
    }
    missing = {"status": "not run: needs torch"}
    network = {"tile": [1, 1, 40, 56, 48], "n_rounds": 5, "runtimes": {"b": ran, "a": missing}}
    return {**record("runtime", 1, {}), "networks": {"hippocampus": network}}


def loads(latency_s: float, count: int) -> dict:
    rounds = [Load(latency_s * count, [latency_s] * count) for _ in range(3)]
    return {**medians(rounds), "of_bare": RATIO}


def serve() -> dict:
    ours = {"status": "run", "clients": {"1": loads(0.11, 10), "8": loads(0.12, 20)}}
    missing = {"server": "Triton", "replicas": 1, "status": "not run: no environment triton"}
    return {
        **record("serve", 1, {"precision": "f32"}),
        "model": "hippocampus",
        "tile": [1, 1, 40, 56, 48],
        "n_rounds": 3,
        "bytes": {"sent": 200_000, "received": 600_000},
        "bare": loads(0.1, 30),
        "servers": [{"server": "veilseg", "replicas": 1, **ours}, missing],
        "scaling": [{"server": "veilseg", "replicas": 2, **RATIO}],
        "against_best_peer": {
            "status": "run",
            "1": {"peer": "Ray Serve ×1", **RATIO, "p95": RATIO},
        },
    }


def site() -> dict:
    each = dict.fromkeys((*speed.PHASES, "total"), 12.345)
    entry = {"scheme": "plain", "milliseconds": each}
    fields = {"n_images": 20, "dataset": "hippocampus", "runtime": "onnxruntime"}
    return {**record("site", 0, fields), "bundles": {"plain": entry}}


def test_blocks_say_what_is_not_measured(places: Places):
    for block in (speed.runtimes, speed.servers, speed.site_time, speed.plan, speed.validation):
        assert block(places) == speed.NOT_YET


def test_blocks_and_plots_of_what_is(places: Places):
    planned = plan.measure(serve(), plan.Assumptions(), lambda *_: None, (1, 50), scans=50)
    results = {
        speed.RUNTIME: runtime(),
        speed.SERVE: serve(),
        speed.SITE: site(),
        speed.PLAN: planned,
    }
    for name, fields in results.items():
        write(places.results / f"{name}.json", fields)
    shown = speed.runtimes(places)
    assert "| hippocampus, 40×56×48 | b | 600 | 2.00 (2.00 to 2.25) | 99.90 % | " in shown
    assert "| -0.0002 (2 images) |" in shown
    assert "| not run: needs torch |" in shown
    assert "5 rounds; " in shown
    shown = speed.servers(places)
    assert "| veilseg | 1 | 8 | 8.333 | 2.00 (2.00 to 2.25) | 120 | 120 |" in shown
    assert "| Triton | 1 | – | not run: no environment triton |" in shown
    assert "ours ÷ the best peer: 1 client 2.00 (2.00 to 2.25) (Ray Serve ×1; time of the " in shown
    assert "veilseg: 2 replicas ÷ 1, most clients: 2.00 (2.00 to 2.25)." in shown
    assert "| plain | 12.3 |" in speed.site_time(places)
    shown = speed.plan(places)
    assert "| 50 | 1 | 50 | breaks: front |" in shown
    assert "what breaks first is the front.** Replicas that each could feed: front 10," in shown
    assert "| 1 | 1 | " in speed.validation(places)
    for draw, name in (
        (speed_plots.servers, speed.SERVE),
        (speed_plots.site_time, speed.SITE),
        (speed_plots.plan, speed.PLAN),
    ):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        assert draw(figure, [results[name]])
        figure.savefig(places.root / f"{name}.png", format="png")
    nobody = {**serve(), "servers": []}
    assert not speed_plots.servers(Figure(), [nobody])


def test_large_image_and_long_load(places: Places):
    assert (speed.volume(places), speed.soak(places)) == (speed.NOT_YET, speed.NO_SOAK)
    entry = {
        "site_peak_mib": 1500.4,
        "seconds": [41.0, 40.0, 39.5],
        "server_idle_mib": 300.2,
        "server_mib": [410.0, 411.0, 410.6],
    }
    fields = {"shape": [512, 512, 400], "spacing_mm": [0.7, 0.7, 1.0], "bundles": {"brain": entry}}
    write(places.results / "bench-volume.json", {**record("volume", 0, {}), **fields})
    shown = speed.volume(places)
    assert "| brain | 1500 MiB | 39.5 | 300 MiB | 410, 411, 411 MiB |" in shown
    assert "512×512×400 voxels of 0.7×0.7×1 mm; " in shown
    fields = {"minutes": 30, "load": 0.8, "clients": 8, "model": "brain", "requests": 12_345}
    rates = {"capacity": 10, "offered": 8, "p50_ms": 100, "p95_ms": 200, "p99_ms": 300}
    memory = {"first_mib": 400, "last_mib": 404, "growth": 0.01}
    failures = {"503": 2}
    fields |= rates | {"memory": memory, "failures": failures}
    write(places.results / "bench-soak.json", {**record("soak", 1, {}), **fields})
    shown = speed.soak(places)
    assert "12,345 requests, failures: 2 × 503." in shown
    assert "from 400 to 404 MiB (+1.0 %)" in shown


def test_goals_of_speed_with_their_figures(places: Places):
    nothing = list(speed_goals.goals(places))
    assert {(measured, enough) for _, _, measured, enough in nothing} == {(None, False)}
    ran = runtime()
    (network,) = ran["networks"].values()
    network["runtimes"]["OpenVINO f32"] = network["runtimes"].pop("b")
    write(places.results / f"{speed.RUNTIME}.json", ran)
    loaded = serve()
    loaded["scaling"].append({"server": "veilseg on Ray", "replicas": 2, **RATIO})
    write(places.results / f"{speed.SERVE}.json", loaded)
    entry = {"ratio": {"median": 1.104}}
    write(places.results / "overhead.json", {"hippocampus": entry, "brain-tissue-encoding": entry})
    bundles = {"brain": {"site_peak_mib": 2048.4}}
    write(places.results / f"{speed.VOLUME}.json", {"bundles": bundles})
    soaked = {"failures": {"503": 2}, "requests": 12_345, "memory": {"growth": 0.01}}
    write(places.results / f"{speed.SOAK}.json", soaked)
    found = {what: (measured, enough) for what, _, measured, enough in speed_goals.goals(places)}
    assert found["hippocampus: OpenVINO f32, times as fast as torch fp32"] == ("2.00", False)
    assert found["hippocampus: Dice after recovery, change"] == ("-0.0002", True)
    assert found["our server ÷ the bare loop, 8 clients"] == ("2.00", True)
    assert found["our server ÷ the best peer, 1 client"] == ("2.00", True)
    assert found["our server ÷ the best peer, 1 client: time of the slowest twentieth"] == (
        "2.00",
        False,
    )
    assert found["our server ÷ the best peer, 32 clients"] == (None, False)
    assert found["on Ray, 2 replicas ÷ 1"] == ("2.00", True)
    assert found["hippocampus: time, mixup ÷ plain, median"] == ("1.10", False)
    assert found["brain tissue: time, encoding ÷ plain, median"] == ("1.10", True)
    assert found["brain: memory of the site"] == ("2048 MiB", False)
    assert found["soak: requests that failed"] == ("2 of 12,345", False)
    assert found["soak: growth of memory"] == ("+1.0 %", True)


def test_phases_are_those_that_are_measured():
    from veilseg.bench.site import PHASES

    assert (*PHASES, "rest") == speed.PHASES
