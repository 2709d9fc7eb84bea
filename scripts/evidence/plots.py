"""Plots of documents, drawn from ``results/``; each records which results it shows."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from evidence import results_plots, speed, speed_plots, verdicts
from evidence.audits import FRONTIER
from evidence.blocks import TITLES
from evidence.jobs import PLAIN_AND_MIXED
from evidence.places import Places, Result
from evidence.sites import CENTERS, POOLED
from evidence.together import RESULT, SCHEMES
from veilseg.audit.pictures import FRONTIER_INCHES, draw_frontier
from veilseg.files import written_whole

# Okabe–Ito: told apart by people who do not see red and green.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
DIGEST = "Results-SHA256"
SIZE_INCHES = (6.4, 4.0)
DPI = 120
TARGET_MARGIN = -0.02


def draw(places: Places) -> None:
    """Draw every plot whose results are there and changed; remove those whose results are not."""
    for name, (sources, make) in PLOTS.items():
        file, digest = places.images / f"{name}.png", places.digest(sources)
        if digest is None:
            file.unlink(missing_ok=True)
            continue
        if recorded(places, name) == digest:
            continue
        results = [places.load(source) or {} for source in sources]
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        if not make(figure, results):
            file.unlink(missing_ok=True)
            continue
        places.images.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as temporary:
            figure.savefig(temporary, format="png", metadata={DIGEST: digest})


def recorded(places: Places, name: str) -> str | None:
    """Digest of the results that a plot was drawn from; None if there is no plot."""
    file = places.images / f"{name}.png"
    if not file.is_file():
        return None
    with Image.open(file) as image:
        digest: str | None = image.info.get(DIGEST)
        return digest


def margins(figure: Figure, results: Sequence[Result]) -> bool:
    """Forest plot: one line per data set, its interval over patients."""
    axes = figure.subplots()
    comparisons = results[0]["comparisons"]
    names = [name for name in reversed(TITLES) if name in comparisons]
    for height, name in enumerate(names):
        margin = comparisons[name]["margin"]
        middle, (low, high) = margin["difference"], margin["interval"]
        if low is not None and high is not None:
            axes.plot([low, high], [height, height], color=BLUE, linewidth=2)
        axes.plot(middle, height, "s", color=BLUE, markersize=7)
        note = f"{middle:+.3f}".replace("-", "−")
        # On white: the lines of zero and of the aim would go through figures near them.
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        at = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        axes.annotate(note, (middle, height), bbox=behind, **at)
    axes.axvline(0, color=GREY, linewidth=1)
    aim = f"aim: at least −{-TARGET_MARGIN:.2f}"
    axes.axvline(TARGET_MARGIN, color=GREY, linewidth=1, linestyle="--", label=aim)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    labels = [f"{TITLES[n]}\n{comparisons[n]['margin']['n_patients']} patients" for n in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(-0.6, len(names) - 0.3)
    axes.set_xlabel("private − plain, mean foreground Dice (95 % over patients)")
    return True


def curve(figure: Figure, results: Sequence[Result]) -> bool:
    """Dice over a, learned and algebraic, plain as a line."""
    axes = figure.subplots()
    points = results[0]["points"]
    places = [point["coefficient"] for point in points]
    for kind, colour, marker in (("learned", BLUE, "o"), ("algebraic", ORANGE, "s")):
        _line(axes, places, [point[kind] for point in points], kind, colour, marker)
    plain = results[0]["plain"]
    axes.axhline(plain["dice"], color=GREEN, label="plain")
    if None not in plain["interval"]:
        axes.axhspan(*plain["interval"], color=GREEN, alpha=0.12, linewidth=0)
    _finish(axes, "mixing coefficient a (weight of the patient image)")
    return True


def mixtures(figure: Figure, results: Sequence[Result]) -> bool:
    """Dice over K."""
    axes = figure.subplots()
    points = results[0]["points"]
    counts = [point["mixtures"] for point in points]
    _line(axes, counts, [point["learned"] for point in points], "learned, a = ½", BLUE, "o")
    axes.set_xticks(counts)
    _finish(axes, "mixtures averaged (each shows the server more)")
    return True


def calibration(figure: Figure, results: Sequence[Result]) -> bool:
    """Accuracy over confidence of each shipped bundle."""
    axes = figure.subplots()
    there = [result for result in results if "calibration" in result]
    for result, colour in zip(there, (BLUE, ORANGE, GREEN, GREY), strict=False):
        bins = [one for one in result["calibration"]["bins"] if one["voxels"]]
        axes.plot(
            [one["confidence"] for one in bins],
            [one["accuracy"] for one in bins],
            *("o-",),
            color=colour,
            markersize=4,
            label=result["bundle"],
        )
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    axes.set_xlim(0.2, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence of the segmentation")
    axes.set_ylabel("share of voxels that are right")
    axes.legend(frameon=False)
    return bool(there)


def frontier(figure: Figure, results: Sequence[Result]) -> bool:
    """Dice kept over what is learned, one panel per channel."""
    points = results[0].get("frontier")
    if points is not None:
        figure.set_size_inches(FRONTIER_INCHES)
        draw_frontier(figure, points)
    return points is not None


def centers(figure: Figure, results: Sequence[Result]) -> bool:
    """Dice of each way on each site's patients, one panel per data set."""
    sets = results[0]["sets"]
    jobs = [job for job in CENTERS if job.name in sets]
    figure.set_size_inches(SIZE_INCHES[0] * len(jobs), 1.3 * SIZE_INCHES[1])  # legends below
    panels = figure.subplots(1, len(jobs), squeeze=False)[0]
    for axes, job in zip(panels, jobs, strict=True):
        alone = {site: f"{title} alone" for site, title in job.titles.items()}
        titles = {**alone, **SCHEMES, POOLED: "all raw images, pooled"}
        colours = dict(zip((*SCHEMES, POOLED), (BLUE, ORANGE, GREEN), strict=True))
        for number, (way, title) in enumerate(titles.items()):
            scores = [sets[job.name]["ways"][way]["on"][site] for site in job.sites]
            places = [at + 0.6 * (number / (len(titles) - 1) - 0.5) for at in range(len(scores))]
            marker = f"${number + 1}$" if way in alone else "o"
            look = {"color": colours.get(way, GREY), "marker": marker, "linestyle": "none"}
            axes.plot(places, [one["dice"] for one in scores], label=title, **look)
            for place, one in zip(places, scores, strict=True):
                if None not in one["interval"]:
                    axes.plot([place, place], one["interval"], color=look["color"], alpha=0.5)
        tested = [f"on {job.titles[site]}" for site in job.sites]
        axes.set_xticks(range(len(tested)), tested)
        axes.set_title(job.data.title)
        axes.grid(alpha=0.3, axis="y")
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1))
    panels[0].set_ylabel("mean foreground Dice\n(95 % over patients)")
    return True


Make = Callable[[Figure, Sequence[Result]], bool]
# Results that each plot shows, and what draws it; it says whether there was anything to draw.
PLOTS: dict[str, tuple[tuple[str, ...], Make]] = {
    "margins": (("margins",), margins),
    "curve": (("curve",), curve),
    "mixtures": (("mixtures",), mixtures),
    "calibration": (PLAIN_AND_MIXED, calibration),
    "frontier": ((FRONTIER.name,), frontier),
    "servers": ((speed.SERVE,), speed_plots.servers),
    "site-time": ((speed.SITE,), speed_plots.site_time),
    "plan": ((speed.PLAN,), speed_plots.plan),
    "centers": ((RESULT,), centers),
    "results-margins": ((verdicts.RESULT,), results_plots.margins),
    "results-frontier": ((verdicts.RESULT,), results_plots.frontier),
    "results-frontier-others": ((verdicts.RESULT,), results_plots.frontier_others),
}


def _line(
    axes: Axes, x: Sequence[float], entries: Sequence[Result], label: str, colour: str, marker: str
) -> None:
    """A line with its interval as a band."""
    axes.plot(x, [entry["dice"] for entry in entries], marker=marker, color=colour, label=label)
    if all(None not in entry["interval"] for entry in entries):
        low, high = zip(*(entry["interval"] for entry in entries), strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _finish(axes: Axes, x_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel("mean foreground Dice")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="band: 95 % over patients")
