"""Results as Markdown: one table per scenario, medians with their range, ratios to a base."""

import statistics

from .bench import BAD, IDLE_CONNECTIONS
from .fleet import named, size_of
from .scenario import SCENARIOS
from .startup import STARTUP

HEADINGS = ("contender", "CPU us/req", "vs {base}", "vs best limit", "user us/req", "req/s", "proxy cores",
            "MB/CPU-s", "p50 / p99 / p99.9 us", "foreign cores", "bad")


def markdown(results, base):
    """The whole report. `results` is a list of result files' contents."""
    records = [
        record | {"round": (number, record["round"])}  # rounds of different files are different rounds
        for number, result in enumerate(results)
        for record in result["records"]
        if "failed" not in record
    ]
    lines = ["# Load rig report", ""]
    for result in results:
        about = result["about"]
        lines.append(f"- {about['date']}, Linux {about['kernel']}: {about['command']}")
        lines += [f"- skipped {name}: {why}" for name, why in result["skipped"].items()]
        lines += [f"- failed {r['contender']} in {r['scenario']}: {r['failed']}"
                  for r in result["records"] if "failed" in r]
    lines += ["", "CPU us/req is user and system time of all the proxy's processes over the responses that came. "
              "Median (least-most) of the rounds. Ratios are the median of the ratios within each round."]
    for name in SCENARIOS:
        chosen = [record for record in records if record["scenario"] == name]
        if chosen:
            table = idle_table if SCENARIOS[name].idle else cpu_table
            lines += ["", f"## {name}: {SCENARIOS[name].what}", "", *table(chosen, base)]
    started = [record for record in records if record["scenario"] == STARTUP]
    if started:
        lines += ["", "## From the start of the process to its first answer", "", *startup_table(started, base)]
    return "\n".join(lines) + "\n"


def cpu_table(records, base):
    runs = by_contender(records)
    cost = {name: values(runs[name], "cpu_us_per_request") for name in runs}
    median = {name: statistics.median(cost[name].values()) for name in cost}
    limits = [name for name in median if name.startswith("limit_")]
    best_limit = min(limits, key=median.get, default=None)
    yield row(heading.format(base=base) for heading in HEADINGS)
    yield "|" + "---|" * len(HEADINGS)
    for name in sorted(median, key=median.get):
        quantiles = [[run["latency_us"][q] for run in runs[name].values()] for q in ("p50", "p99", "p999")]
        yield row([
            name,
            spread(cost[name].values(), 2),
            ratio(cost[name], cost.get(base)),
            ratio(cost[name], cost.get(best_limit)),
            spread(values(runs[name], "user_us_per_request").values(), 2, ends=False),
            spread(values(runs[name], "requests_per_second").values(), 0),
            spread(values(runs[name], "proxy_cores").values(), 2, ends=False),
            spread(values(runs[name], "mb_per_cpu_second").values(), 0, ends=False),
            " / ".join(spread(latencies, 0, ends=False) for latencies in quantiles),
            f"{max(run['foreign_cores'] for run in runs[name].values()):.2f}",
            sum(run.get(kind, 0) for run in runs[name].values() for kind in BAD),
        ])


def idle_table(records, _base):
    most = IDLE_CONNECTIONS[-1]
    yield row(["contender", *(f"PSS KiB, {count} connections" for count in IDLE_CONNECTIONS), "bytes/connection",
               f"RSS KiB at {most}", f"PSS KiB before {most}, after they have gone"])
    yield "|" + "---|" * (len(IDLE_CONNECTIONS) + 4)
    for record in records:
        sizes = [record["idle"][str(count)] for count in IDLE_CONNECTIONS]
        grown = (sizes[-1]["pss_kib"] - sizes[0]["pss_kib"]) * 1024 / max(1, sizes[-1]["open"])
        ends = [str(sizes[-1].get(when, {}).get("pss_kib", "-")) for when in ("before", "gone")]
        yield row([record["contender"], *(size["pss_kib"] for size in sizes), f"{grown:.0f}", sizes[-1]["rss_kib"],
                   ", ".join(ends)])


def startup_table(records, base):
    runs = by_contender(records)
    cost = {name: values(runs[name], "ms") for name in runs}
    yield row(["contender", "ms", f"vs {base}", "CPU ms", "starts"])
    yield "|" + "---|" * 5
    for name in cost:
        # The base with as many hosts.
        size = size_of(name.partition("@")[2])
        rival = cost.get(named(base, size) if size else base)
        yield row([name, spread(cost[name].values(), 1), ratio(cost[name], rival),
                   spread(values(runs[name], "cpu_ms").values(), 1), len(cost[name])])


def by_contender(records):
    runs = {}
    for record in records:
        runs.setdefault(record["contender"], {})[record["round"]] = record
    return runs


def values(runs, key):
    return {round_number: run[key] for round_number, run in runs.items()}


def spread(numbers, digits, ends=True):
    numbers = list(numbers)
    text = f"{statistics.median(numbers):.{digits}f}"
    return text + f" ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})" if ends else text


def ratio(cost, base):
    """The ratio in each round that both took part in: neighbours in time, so that drift cancels."""
    shared = [cost[r] / base[r] for r in cost if base and base.get(r)]
    return spread(shared, 2) if shared else "-"


def row(cells):
    return "| " + " | ".join(map(str, cells)) + " |"
