"""Blocks of docs/performance.md: runtimes, servers under load, a site's time, a plan."""

from collections.abc import Callable

from evidence.cells import head, row
from evidence.places import Places, Result

NOT_YET = "Not measured yet: `make bench`."
RUNTIME, SERVE, SITE, PLAN = (f"bench-{name}" for name in ("runtime", "serve", "site", "plan"))
VOLUME, SOAK = "bench-volume", "bench-soak"
NO_SOAK = "Not measured yet: `make bench-soak`."
# As veilseg.bench.site names them.
PHASES = ("read", "protect", "ledger", "tile", "wire", "wait", "recover", "write", "rest")


def runtimes(places: Places) -> str:
    """Times, ratios and agreement of every runtime on every network."""
    found = places.load(RUNTIME)
    if found is None:
        return NOT_YET
    lines = head("network, tile", "runtime", "ms", "times as fast", "same class", "Dice, change")
    for name, network in found["networks"].items():
        tile = "×".join(map(str, network["tile"][2:]))
        for number, (runtime, entry) in enumerate(network["runtimes"].items()):
            what = f"{name}, {tile}" if number == 0 else ""
            lines.append(row(what, runtime, *_runtime_cells(entry)))
    return "\n".join([*lines, "", where(found, f"{_rounds(found['networks'])} rounds")])


def _runtime_cells(entry: Result) -> list[str]:
    if entry["status"] != "run":
        return [entry["status"], "", "", ""]
    same = entry["agreement"].get("same_class")
    dice = entry.get("dice")
    return [
        f"{1000 * entry['median_s']:.3g}",
        ratio(entry["speedup"]),
        "–" if same is None else f"{100 * same:.2f} %",
        "–" if dice is None else f"{dice['difference']:+.4f} ({dice['n_cases']} images)",
    ]


def servers(places: Places) -> str:
    """Throughput and latency of every server and number of clients."""
    found = places.load(SERVE)
    if found is None:
        return NOT_YET
    lines = head("server", "replicas", "clients", "tiles/s", "of the bare loop", "p50 ms", "p95 ms")
    bare = found["bare"]
    lines.append(row("bare OpenVINO loop", "1", "–", f"{bare['throughput']:g}", "1", "", ""))
    for entry in found["servers"]:
        name, replicas = entry["server"], str(entry["replicas"])
        if entry["status"] != "run":
            lines.append(row(name, replicas, "–", entry["status"], "", "", ""))
            continue
        for clients, figures in entry["clients"].items():
            cells = (f"{figures[key]:g}" for key in ("p50_ms", "p95_ms") if key in figures)
            flow = f"{figures.get('throughput', 0):g}"
            if failures := sum(figures["failures"].values()):
                flow += f", {failures} failed"
            lines.append(row(name, replicas, clients, flow, ratio(figures["of_bare"]), *cells))
    tile = "×".join(map(str, found["tile"][2:]))
    note = f"{found['model']}, tiles {tile}, {found['precision']}, {found['n_rounds']} rounds"
    told = [_against(found["against_best_peer"]), *map(_scaled, found["scaling"])]
    return "\n".join([*lines, "", *told, "", where(found, note)])


def _scaled(entry: Result) -> str:
    return f"{entry['server']}: {entry['replicas']} replicas ÷ 1, most clients: {ratio(entry)}."


def _against(entry: Result) -> str:
    if entry["status"] != "run":
        return f"Ours ÷ the best peer: {entry['status']}."
    told = (
        f"{clients} client{'' if clients == '1' else 's'} {ratio(one)} ({one['peer']}; time of the "
        f"slowest twentieth {'–' if one['p95'] is None else ratio(one['p95'])})"
        for clients, one in entry.items()
        if clients != "status"
    )
    return f"Throughput, ours ÷ the best peer: {'; '.join(told)}."


def site_time(places: Places) -> str:
    """Milliseconds of a site by phase."""
    found = places.load(SITE)
    if found is None:
        return NOT_YET
    lines = head("milliseconds, median", *PHASES, "in all")
    for name, entry in found["bundles"].items():
        each = entry["milliseconds"]
        lines.append(row(name, *(f"{each[phase]:.3g}" for phase in (*PHASES, "total"))))
    note = f"{found['n_images']} images of {found['dataset']}, {found['runtime']} at the site"
    return "\n".join([*lines, "", where(found, note)])


def plan(places: Places) -> str:
    """Latency, use, cost by replicas; what breaks first."""
    found = places.load(PLAN)
    if found is None:
        return NOT_YET
    lines = head(
        *("replicas", "fronts", "scans/s", "scan p50 s", "scan p95 s"),
        *("replicas busy", "fronts busy", "cost of 1,000 scans"),
    )
    for point in found["points"]:
        cells = [str(point["replicas"]), str(point["fronts"]), f"{point['scans_per_s']:g}"]
        if point["status"] != "simulated":
            lines.append(row(*cells, point["status"], "", "", "", ""))
            continue
        busy = (f"{100 * point['utilisation'][name]:.0f} %" for name in ("replicas", "front"))
        times = (f"{point[name]:g}" for name in ("scan_p50_s", "scan_p95_s"))
        lines.append(row(*cells, *times, *busy, f"{point['cost_per_1000_scans']:g}"))
    return "\n".join([*lines, "", _breaks(found), "", _assumed(found)])


def _breaks(found: Result) -> str:
    ends = found["breaks_first"]
    counts = ", ".join(f"{name} {count:g}" for name, count in ends["replicas"].items())
    return (
        f"**Behind one front, what breaks first is the {ends['first']}.** Replicas that each could "
        f"feed: {counts}; the link of one site: {ends['replicas_that_one_site_can_feed']:g}."
    )


def _assumed(found: Result) -> str:
    assumed, measured = found["assumptions"], found["calibration"]
    return (
        f"Measured: a tile takes a replica {1000 * measured['replica_s']:.3g} ms and a front "
        f"{1000 * measured['front_s']:.3g} ms, {measured['sent'] / 1e6:.2f} MB go and "
        f"{measured['received'] / 1e6:.2f} MB come. Assumed: {assumed['tiles_per_scan']} tiles a "
        f"scan, {assumed['under_way']} under way, replicas at {100 * assumed['load']:.0f} %, links "
        f"of {assumed['site_mbit_per_s']:g} Mbit/s for a site and {assumed['front_mbit_per_s']:g} "
        f"for a front, {assumed['price_per_core_hour']:g} for a core and hour."
    )


def validation(places: Places) -> str:
    """Simulated beside measured."""
    found = places.load(PLAN)
    if found is None:
        return NOT_YET
    lines = head("replicas", "clients", "simulated ÷ measured: tiles/s", "p50", "p95")
    for one in found["validation"]:
        ratios = (f"{one[name]['ratio']:.2f}" for name in ("throughput", "p50_ms", "p95_ms"))
        lines.append(row(str(one["replicas"]), str(one["clients"]), *ratios))
    return "\n".join(lines)


def volume(places: Places) -> str:
    """Memory of a large image, at the site and at the server."""
    found = places.load(VOLUME)
    if found is None:
        return NOT_YET
    lines = head("bundle", "site, at the most", "seconds", "server, idle", "server, after each")
    for name, one in found["bundles"].items():
        after = ", ".join(f"{mib:.0f}" for mib in one["server_mib"])
        cells = (f"{one['seconds'][-1]:g}", f"{one['server_idle_mib']:.0f} MiB", f"{after} MiB")
        lines.append(row(name, f"{one['site_peak_mib']:.0f} MiB", *cells))
    shape, spacing = (
        "×".join(f"{size:g}" for size in found[key]) for key in ("shape", "spacing_mm")
    )
    return "\n".join([*lines, "", where(found, f"{shape} voxels of {spacing} mm")])


def soak(places: Places) -> str:
    """A server under load for long."""
    found = places.load(SOAK)
    if found is None:
        return NO_SOAK
    memory = found["memory"]
    failures = ", ".join(f"{count} × {why}" for why, count in found["failures"].items())
    return (
        f"{found['minutes']:g} minutes at {found['offered']:g} tiles/s, "
        f"{100 * found['load']:.0f} % of the {found['capacity']:g} that {found['clients']} clients "
        f"got at the most: {found['requests']:,} requests, failures: {failures or 'none'}. Half "
        f"were answered within {found['p50_ms']:g} ms of when they were due, 95 % within "
        f"{found['p95_ms']:g}, 99 % within {found['p99_ms']:g}. Resident memory went from "
        f"{memory['first_mib']:g} to {memory['last_mib']:g} MiB ({100 * memory['growth']:+.1f} %), "
        f"medians of a tenth of the time.\n\n{where(found, found['model'])}"
    )


def ratio(entry: Result) -> str:
    """With its interval."""
    low, high = entry["interval"]
    return f"{entry['median']:.2f} ({low:.2f} to {high:.2f})"


def _rounds(networks: Result) -> str:
    counts = sorted({network["n_rounds"] for network in networks.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def where(found: Result, note: str) -> str:
    """What was measured, on what, and at which commit."""
    machine = found["machine"]
    threads = f", {found['threads']} thread(s)" if found["threads"] else ""
    return (
        f"{note}; {machine['processor']}, {machine['usable_cores']} cores{threads}; "
        f"load before {machine['load_before']:g}; commit {found['commit'][:12]}."
    )


BLOCKS: dict[str, Callable[[Places], str]] = {
    "runtimes": runtimes,
    "servers": servers,
    "site-time": site_time,
    "volume": volume,
    "soak": soak,
    "plan": plan,
    "plan-validation": validation,
}
