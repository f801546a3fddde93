"""Where the time goes: system calls per request, and sampled profiles. Needs perf and strace, and root."""

import contextlib
import json
import signal
import subprocess
import time

from . import system
from .bench import Bench, say
from .contender import RigError

PROBE_SECONDS = 3
TRACE_EVENTS = "raw_syscalls:sys_enter,context-switches,page-faults"
SHOWN_FROM = 0.004  # calls per request
PROFILE_LINES = {"dso": 8, "dso,symbol": 30}


@contextlib.contextmanager
def observed(argv, settle):
    """Runs an observer during the block and ends it with SIGINT, upon which it writes its findings."""
    observer = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(settle)
    if observer.poll() is not None:
        raise RigError(f"{argv[0]} could not attach: {observer.stderr.read().strip()[-300:]}")
    try:
        yield
    finally:
        observer.send_signal(signal.SIGINT)
        observer.communicate(timeout=30)


def each(options, contender_names, scenario_names):
    """All contenders in all scenarios, one process at a time."""
    with Bench(options) as bench:
        for name in contender_names:
            contender = bench.open(name)
            if contender is None:
                continue
            for scenario in scenario_names:
                yield bench, contender, scenario
            contender.stop()


def syscalls(options, contender_names, scenario_names):
    """System calls, context switches and page faults per request: exact totals by perf, names by strace."""
    findings = {}
    for bench, contender, scenario in each(options, contender_names, scenario_names):
        found = {"perf": perf_stat(bench, contender, scenario), "strace": strace(bench, contender, scenario)}
        findings[f"{contender.name} {scenario}"] = found
        say(f"{contender.name} {scenario} {json.dumps(found)}")
        with open(options.out, "w") as file:
            json.dump(findings, file, indent=1)


def perf_stat(bench, contender, scenario):
    output = bench.tools.path("perf-stat.csv")
    pids = ",".join(map(str, contender.pids()))
    perf = [bench.tools.installed("perf"), "stat", "-x", ",", "-o", output, "-e", TRACE_EVENTS, "-p", pids]
    before = system.tcp_segments_sent()
    with observed(perf, settle=0.5):
        requests = max(1, bench.run_load(contender, scenario, PROBE_SECONDS, 0)["requests"])
    found = {"tcp-segments-machine-wide": (system.tcp_segments_sent() - before) / requests}
    with open(output) as file:
        for cells in (line.split(",") for line in file):
            if len(cells) > 2 and cells[0].isdigit():
                found[cells[2]] = int(cells[0]) / requests
    return found


def strace(bench, contender, scenario):
    """The share of each call. Being traced slows a proxy, so waits are fewer per request than without."""
    output = bench.tools.path("strace.txt")
    argv = [bench.tools.installed("strace"), "-c", "-f", "-o", output]
    for pid in contender.pids():
        argv += ["-p", str(pid)]
    with observed(argv, settle=1):
        requests = max(1, bench.run_load(contender, scenario, PROBE_SECONDS, 0)["requests"])
    calls = {}
    with open(output) as file:
        for words in map(str.split, file):
            # % time, seconds, usecs/call, calls, [errors], name
            if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] = round(int(words[3]) / requests, 3)
    return dict(sorted(((n, c) for n, c in calls.items() if c >= SHOWN_FROM), key=lambda item: -item[1]))


def profile(options, contender_names, scenario_names):
    """Where CPU time is spent, sampled: by binary, then by symbol."""
    with open(options.out, "w") as report:
        for bench, contender, scenario in each(options, contender_names, scenario_names):
            data = bench.tools.path("perf.data")
            pids = ",".join(map(str, contender.pids()))
            perf = bench.tools.installed("perf")
            with observed([perf, "record", "-e", "cpu-clock", "-F", "4000", "-o", data, "-p", pids], settle=0.5):
                bench.run_load(contender, scenario, PROBE_SECONDS, 0.2)
            for keys, lines in PROFILE_LINES.items():
                argv = [perf, "report", "-i", data, "--stdio", "-s", keys, "--percent-limit", "0.4"]
                text = subprocess.run(argv, capture_output=True, text=True).stdout
                shown = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
                report.write(f"== {contender.name} {scenario} by {keys}\n" + "\n".join(shown[:lines]) + "\n")
            report.flush()
            say(f"# {contender.name} {scenario} profiled")
