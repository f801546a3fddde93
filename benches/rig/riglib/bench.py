"""Runs and rounds: who is measured when, and what a run yields."""

import json
import os
import subprocess
import sys
import time

from . import system
from .contender import Contender, RigError, Setup
from .scenario import SCENARIOS, request_bytes

IDLE_CONNECTIONS = (0, 1000, 5000)
LOG_SETTLE_SECONDS = 0.3  # until what is logged has been written
QUIET_WAIT_SECONDS = 2  # before a run is repeated because others used the machine


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """The backend and the contenders, up and answering. Use as a context manager; leaving it stops them all."""

    def __init__(self, options):
        self.options = options
        self.work = os.path.abspath(options.work)
        self.tools = Setup("rig", [], os.path.join(self.work, "rig"), options)
        self.contenders = {}
        self.skipped = {}
        self.backend = None
        self.upstreams = []

    def __enter__(self):
        argv = [self.tools.built("backend")] + ["0"] * self.options.upstreams
        self.backend = system.spawn(argv, self.options.load_cpu, stdout=subprocess.PIPE, text=True)
        self.upstreams = [int(port) for port in self.backend.stdout.readline().split()]
        if len(self.upstreams) != self.options.upstreams:
            system.stop(self.backend)
            raise RigError("the backend did not start")
        return self

    def __exit__(self, *_):
        for contender in self.contenders.values():
            contender.stop()
        system.stop(self.backend)

    def open(self, name):
        """Starts a contender; one that cannot start is noted in `skipped` and gives None."""
        try:
            contender = Contender(name, self.upstreams, self.work, self.options)
            contender.start()
        except RigError as error:
            self.skipped[name] = str(error)
            say(f"# skipped {name}: {error}")
            return None
        self.contenders[name] = contender
        say(f"# {name} is up on port {contender.port}, {len(contender.tokens)} token(s)")
        return contender

    def revive(self, name):
        """Starts a contender again that has died; gives it up when that fails."""
        if self.contenders[name].has_died():
            self.contenders.pop(name).stop()
            self.open(name)

    def load(self, contender, scenario_name, *extra):
        """The load generator's command line."""
        scenario = SCENARIOS[scenario_name]
        argv = [self.tools.built("load"), "--target", f"127.0.0.1:{contender.port}", *scenario.load]
        argv += ["--length", str(scenario.body)]
        for number, (token, upstream) in enumerate(contender.tokens if scenario.token else [(None, "")]):
            request = request_bytes(scenario.path, token, scenario.browser)
            argv += ["--request", self.tools.write(f"{contender.name}.{scenario_name}.{number}", request)]
            argv += ["--upstream", upstream] if upstream else []
        return argv + [str(argument) for argument in extra]

    def run_load(self, contender, scenario_name, seconds, warmup, *extra):
        """Runs the load generator to its end; what it reports."""
        argv = self.load(contender, scenario_name, "--seconds", seconds, "--warmup", warmup, *extra)
        process = system.spawn(argv, self.options.load_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = process.communicate(timeout=seconds + warmup + 30)
        finally:
            system.stop(process)
        if process.returncode != 0:
            raise RigError(f"the load generator ended with {process.returncode}: {errors.strip()[-300:]}")
        return json.loads(output)

    def measure(self, contender, scenario_name):
        """One run, repeated while others took too much CPU; the quietest is kept."""
        best = None
        for attempt in range(1, self.options.retries + 2):
            run = self._measure_once(contender, scenario_name)
            if best is None or run["foreign_cores"] < best["foreign_cores"]:
                best = run
            best["attempts"] = attempt
            if best["foreign_cores"] <= self.options.max_foreign or attempt > self.options.retries:
                return best
            time.sleep(QUIET_WAIT_SECONDS)

    def _measure_once(self, contender, scenario_name):
        pids = contender.pids()
        extra = ["--pids", ",".join(map(str, pids))] if pids else []
        with system.ForeignCpu([*pids, self.backend.pid]) as foreign:
            contender.harvest_log()  # what was logged before is of no interest
            run = self.run_load(contender, scenario_name, self.options.duration, self.options.warmup, *extra)
        if getattr(contender.module, "harvest_log", None):
            time.sleep(LOG_SETTLE_SECONDS)
        return run | figures(run) | {
            "missing_tokens": missing_tokens(run, contender, SCENARIOS[scenario_name]),
            "unlogged": unlogged(run, contender.harvest_log()),
            "foreign_cores": foreign.cores,
            "steal_cores": foreign.steal,
        }

    def idle_memory(self, name):
        """Memory with idle keep-alive connections, each of which made one request; a fresh process each time."""
        sizes = {}
        for count in IDLE_CONNECTIONS:
            contender = Contender(name, self.upstreams, self.work, self.options)
            contender.start()
            try:
                sizes[str(count)] = self._memory_holding(contender, count)
            finally:
                contender.stop()
        return sizes

    def _memory_holding(self, contender, count):
        before = system.memory_kib(contender.pids())
        if count == 0:
            return {"open": 0} | before
        argv = self.load(contender, "S7", "--hold", "--connections", count)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        holder = system.spawn(argv, self.options.load_cpu, **pipes)
        try:
            line = holder.stdout.readline()
            if not line:
                raise RigError(f"the load generator could not hold {count} connections")
            held = json.loads(line)
            time.sleep(self.options.idle_seconds)
            held |= system.memory_kib(contender.pids())
        finally:
            system.stop(holder)
        time.sleep(self.options.gone_seconds)
        return held | {"before": before, "gone": system.memory_kib(contender.pids())}


def figures(run):
    """What follows from the load generator's counts. A request that failed is not a request."""
    requests, cpu_ns = max(1, run["requests"]), run["cpu_ns"]
    ticks = run["user_ticks"] + run["system_ticks"]
    return {
        "requests_per_second": run["requests"] / run["seconds"],
        "cpu_us_per_request": ticks / system.CLOCK_TICKS * 1e6 / requests,
        "cpu_us_per_request_schedstat": cpu_ns / 1e3 / requests,
        "user_us_per_request": run["user_ticks"] / system.CLOCK_TICKS * 1e6 / requests,
        "load_cpu_us_per_request": run["load_cpu_seconds"] * 1e6 / requests,
        "proxy_cores": cpu_ns / 1e9 / run["seconds"],
        "mb_per_cpu_second": run["bytes"] / 1e6 / (cpu_ns / 1e9) if cpu_ns else 0,
    }


def missing_tokens(run, contender, scenario):
    """How many new sessions were not given a token."""
    return run["requests"] - run["set_cookie"] if contender.module.TOKEN == "cookie" and not scenario.token else 0


def unlogged(run, harvest):
    """How many requests a contender with an access log did not log. What it logged of the warm-up cannot be told from
    the rest, so the lines it says it dropped are counted, and lines that are plainly too few."""
    if harvest is None:
        return 0
    lines, lost = harvest
    return max(lost, run["requests"] - lines)


BAD = ("errors", "non2xx", "wrong_upstream", "wrong_length", "missing_tokens", "unlogged")


def run_line(scenario, round_number, name, run):
    """One run, for whoever watches."""
    bad = " ".join(f"{kind} {run[kind]}" for kind in BAD if run[kind]) or "all good"
    latency = run["latency_us"]
    return (
        f"{scenario:7} round {round_number + 1} {name:20} {run['cpu_us_per_request']:8.2f} us/req"
        f" {run['requests_per_second']:9.0f} req/s  proxy {run['proxy_cores']:.2f}"
        f"  p50 {latency['p50']:.0f} p99 {latency['p99']:.0f} us  {bad}"
        f"  foreign {run['foreign_cores']:.2f} (attempt {run['attempts']})"
    )


def memory_text(count, memory):
    """The memory that `count` connections took, for whoever watches."""
    gone = f" ({memory['before']['pss_kib']} before, {memory['gone']['pss_kib']} after)" if "gone" in memory else ""
    return f"{count}: {memory['pss_kib']} KiB{gone}"


def run_all(options, contender_names, scenario_names, record, skipped):
    """Measures everybody in every scenario, in rounds A B C, A B C; hands each record to `record`."""
    with Bench(options) as bench:
        for name in contender_names:
            bench.open(name)
        skipped.update(bench.skipped)
        for scenario in scenario_names:
            idle = SCENARIOS[scenario].idle
            for round_number in range(1 if idle else options.rounds):
                for name in list(bench.contenders):
                    head = {"contender": name, "scenario": scenario, "round": round_number}
                    try:
                        record(head | run_one(bench, bench.contenders[name], scenario, round_number))
                    except RigError as error:
                        say(f"{scenario:7} round {round_number + 1} {name:20} FAILED: {error}")
                        record(head | {"failed": str(error)})
                        bench.revive(name)
                        skipped.update(bench.skipped)


def run_one(bench, contender, scenario, round_number):
    if not SCENARIOS[scenario].idle:
        run = bench.measure(contender, scenario)
        say(run_line(scenario, round_number, contender.name, run))
        return run
    if contender.process is None:
        raise RigError("there is no proxy whose memory could be measured")
    memory = bench.idle_memory(contender.name)
    say(f"{scenario:7} {contender.name:20} " + ", ".join(memory_text(*item) for item in memory.items()))
    return {"idle": memory}
