"""The command line."""

import argparse
import json
import os
import signal
import sys
import time

from . import bench, probe, report, scenario, startup, system
from .contender import REPOSITORY, RigError, names

SCRATCH = os.path.join(REPOSITORY, ".cache", "rig")


def main():
    options = parse()
    # Ends the proxies too when the rig is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    system.raise_file_limit()
    try:
        return options.command(options) or 0
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse():
    parser = argparse.ArgumentParser(prog="rig", description="Sticky-session proxies, measured side by side.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name, command, out=None, scenarios=True):
        sub = commands.add_parser(name, help=command.__doc__)
        sub.set_defaults(command=command)
        if out:
            add_bench_options(sub, os.path.join(SCRATCH, out))
        if out and scenarios:
            sub.add_argument("--scenarios", default="S1", help="comma-separated; S4 stands for S4_1k,S4_64k,S4_1m")
        return sub

    run = add("run", cmd_run, "results.json")
    run.add_argument("--rounds", type=int, default=3)
    run.add_argument("--duration", type=float, default=5, help="seconds of each run")
    run.add_argument("--warmup", type=float, default=0.7, help="seconds before each run")
    run.add_argument("--retries", type=int, default=3, help="of a run that others disturbed")
    run.add_argument("--max-foreign", type=float, default=0.10, help="cores that others may use (0.10)")
    run.add_argument("--idle-seconds", type=float, default=5, help="S7: seconds that connections rest")
    run.add_argument("--gone-seconds", type=float, default=5, help="S7: seconds after connections have gone")
    begin = add("startup", cmd_startup, "startup.json", scenarios=False)
    begin.add_argument("--hosts", default="", help="comma-separated; the contenders' variants with so many hosts")
    begin.add_argument("--rounds", type=int, default=7)
    for sub in (run, begin):
        sub.add_argument("--base", default="haproxy", help="the contender that ratios refer to")
        sub.add_argument("--append", action="store_true", help="keep the records that the output file holds")
    add("syscalls", cmd_syscalls, "syscalls.json")
    add("profile", cmd_profile, "profile.txt")
    add("list", cmd_list)
    again = add("report", cmd_report)
    again.add_argument("files", nargs="+")
    again.add_argument("--base", default="haproxy")
    return parser.parse_args()


def add_bench_options(parser, out):
    parser.add_argument("--contenders", required=True, help="comma-separated; `rig list` shows them")
    parser.add_argument("--out", default=out)
    parser.add_argument("--bin", default=os.path.join(REPOSITORY, "target", "release", "homing"), help="homing")
    parser.add_argument("--envoy", default=os.environ.get("ENVOY"), help="Envoy (what install.sh brought)")
    parser.add_argument("--work", default=os.path.join(SCRATCH, "work"), help="for generated configurations and logs")
    parser.add_argument("--upstreams", type=int, default=3)
    parser.add_argument("--proxy-cpu", type=system.cpu_set, default={0}, help="0; several: 0,1")
    parser.add_argument("--load-cpu", type=system.cpu_set, default={1}, help="1; of load generator and backend")


def cmd_run(options):
    """measure; writes JSON, and a Markdown report beside it"""
    chosen = scenario.expand(options.scenarios)
    return measured(options, lambda *ends: bench.run_all(options, options.contenders.split(","), chosen, *ends))


def cmd_startup(options):
    """measure the time from a start to the first answer; writes the same files"""
    try:
        sizes = [int(size) for size in options.hosts.split(",") if size]
    except ValueError:
        raise RigError(f"--hosts: expected numbers with commas between them, got {options.hosts!r}") from None
    return measured(options, lambda *ends: startup.run_all(options, options.contenders.split(","), sizes, *ends))


def measured(options, measure):
    """Has `measure` hand over its records and what it skipped, and writes the files; the exit code."""
    results = {
        "about": {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "kernel": os.uname().release,
            "command": "rig " + " ".join(sys.argv[1:]),
        },
        "skipped": {},
        "records": [],
    }
    prepare(options)
    if options.append and os.path.exists(options.out):
        with open(options.out) as file:
            results["records"] = json.load(file)["records"]
    first_round = 1 + max((record["round"] for record in results["records"]), default=-1)

    def save():
        with open(options.out + ".part", "w") as file:
            json.dump(results, file, indent=1)
        os.replace(options.out + ".part", options.out)

    def record(entry):
        results["records"].append(entry | {"round": first_round + entry["round"]})
        save()

    measure(record, results["skipped"])
    save()
    text = report.markdown([results], options.base)
    with open(os.path.splitext(options.out)[0] + ".md", "w") as file:
        file.write(text)
    print(text)
    failed = any("failed" in entry for entry in results["records"])
    return 1 if failed or results["skipped"] or not results["records"] else 0


def cmd_syscalls(options):
    """system calls per request: totals by perf, names by strace"""
    prepare(options)
    probe.syscalls(options, options.contenders.split(","), scenario.expand(options.scenarios))


def cmd_profile(options):
    """sampled profile by binary and symbol"""
    prepare(options)
    probe.profile(options, options.contenders.split(","), scenario.expand(options.scenarios))


def cmd_list(_options):
    """the contenders and the scenarios"""
    for name, what in names():
        print(f"{name:27} {what}")
    for name, described in scenario.SCENARIOS.items():
        print(f"{name:27} {described.what}")


def cmd_report(options):
    """print one report on several result files"""
    results = []
    for path in options.files:
        with open(path) as file:
            results.append(json.load(file))
    print(report.markdown(results, options.base))


def prepare(options):
    os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
