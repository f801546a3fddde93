#!/usr/bin/env python3
"""Hours of mixed clients, broken hosts and churn, on all shells at once; then the accounts are made up.

    soak.py [--minutes 60] [--runtimes monoio,mio,tokio] [--seed N] [--load 1.0] [--reload] [--report FILE] [--keep]

One Homing per runtime, each with clients of its own (clients.py), all before the same hosts (hosts.py), of which one or
two are down or stopped much of the time. With --reload the configuration is rewritten and SIGHUP sent, again and again:
hosts drain, come back and leave. Every few seconds the kernel is asked for memory and descriptors; every minute a line
of JSON with them and the outcomes goes to the report. At the end, for each runtime:

  memory        the median of the resident set over the last half of the run is at most 1.05 times that of its second
                and third twelfth (of an hour: minutes 5 to 15). Runs of less than half an hour are not judged.
  descriptors   when all clients have left and the time-outs have passed, as many are open as before the first client
  accounts      every request has the one line of the access log that it is owed, with the status its client saw, or a
                stated reason for none; no session moved silently, no bytes of one request in another, no client hung
  reload        with --reload: every signal was answered by a new configuration in force, and none was refused
  exit          SIGTERM ends it with status 0

Loopback only, Python 3.10 and no packages. What comes of one seed differs in timing from run to run. Exit status: 0 all
well, 1 not so, 2 it could not run.
"""

import collections
import json
import multiprocessing
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time

import clients
import hosts
from ledger import Ledger
from proxy import Homing, arguments, descriptor_limit, find_homing, guarded

HOSTS = 6
SAMPLE_SECONDS = 5
# Of a run: where the settled part begins and ends, and where its last half begins.
EARLY, LATE = (1 / 12, 3 / 12), 1 / 2
GROWTH_MAX = 1.05
# Below this many minutes, what is measured is the warm-up.
JUDGED_MINUTES = 30
# Time-outs that clients and hosts run into, so that each is met many times in a run.
LIMITS = {
    "requestHeadTimeout": "3s", "bodyIdleTimeout": "6s", "connectTimeout": "2s", "responseTimeout": "5s",
    "keepAliveTimeout": "8s", "tunnelIdleTimeout": "20s", "linkIdleTimeout": "4s", "pendingTimeout": "2s",
    "lingerTimeout": "1s", "drainTimeout": "10s", "requestBody": "1MiB", "hostConnections": 40, "hostPending": 20,
}
# The longest of the time-outs that close what nobody uses, and then some.
QUIET_SECONDS = 30


def settings(addresses, admissions=None, left_out=()):
    """The configuration; `admissions` by address."""
    admissions = admissions or {}
    hosts_of = [
        {"address": address, "admission": admissions.get(address, "open")}
        for address in addresses
        if address not in left_out
    ]

    def listener(name, session):
        return {
            "name": name, "address": "127.0.0.1:0", "statefulSession": session,
            "routes": [{"forward": {"cluster": "soak"}}],
        }

    cookie = {"cookieBased": {"cookie": {"name": "sid", "path": "/", "ttl": "30s"}}}
    return {
        "limits": LIMITS,
        "listeners": [
            listener("cookie", cookie),
            listener("header", {"headerBased": {"headerName": "x-session-id"}, "strict": True}),
            listener("envelope", {"envelope": {"headerName": "mcp-session-id"}}),
            listener("hostile", cookie),
        ],
        "clusters": [{"name": "soak", "hosts": hosts_of}],
    }


class Subject:
    """One runtime under soak."""

    def __init__(self, runtime, work, binary, addresses):
        self.runtime = runtime
        self.homing = Homing(f"homing-{runtime}", settings(addresses), work, runtime, binary)
        # The start: nobody has connected yet.
        self.descriptors_before = self.homing.at_rest()
        self.journal = os.path.join(work, f"journal-{runtime}")
        open(self.journal, "w").close()
        self.ledger = Ledger(self.journal, self.homing.access_log)
        self.samples = []  # (seconds since the start, memory)
        self.since = collections.defaultdict(collections.Counter)
        self.cpu, self.descriptors_after, self.status = 0.0, None, None

    def begin(self, context, seed, load):
        arguments = (self.runtime, self.homing.ports, seed, self.journal, load)
        self.crowd = context.Process(target=clients.run, args=arguments)
        self.crowd.start()

    def sample(self, elapsed):
        memory = self.homing.memory()
        self.samples.append((elapsed, memory))
        return {**memory, "descriptors": self.homing.descriptors(), "threads": self.homing.threads()}

    def report(self, minute, last):
        """The line of this minute: what the kernel says, and what has come since the last line."""
        ledger, cpu = self.ledger, self.homing.cpu_seconds()

        def fresh(name, counter):
            new = counter - self.since[name]
            self.since[name] = counter.copy()
            return dict(sorted(new.items()))

        line = {
            "runtime": self.runtime, "minute": minute, **last, "cpu_seconds": round(cpu - self.cpu, 2),
            "requests": ledger.requests, "lines": ledger.logged, "moved": ledger.moved,
            "complaints": ledger.complaint_count, "outcomes": fresh("outcomes", ledger.outcomes),
            "clients": fresh("clients", ledger.seen),
        }
        self.cpu = cpu
        return line

    def medians(self, seconds, kind):
        """In KiB: of the settled part and of the last half; None where nothing was sampled."""

        def median(begin, end):
            found = [memory[kind] for at, memory in self.samples if begin * seconds <= at <= end * seconds]
            return statistics.median(found) if found else None

        return median(*EARLY), median(LATE, 1)


class Churn:
    """What happens to the hosts, and to the configuration."""

    def __init__(self, fleet, seed, subjects, reloads):
        self.fleet, self.subjects, self.reloads = fleet, subjects, reloads
        self.random = random.Random(f"{seed} churn")
        self.next_hurt, self.next_reload = 5.0, 8.0
        self.reloaded = 0
        # The longest that this process itself was kept from running: a machine that stands still explains time-outs.
        self.still = 0.0

    def turn(self, now):
        self.fleet.heal(now)
        if now >= self.next_hurt:
            self.fleet.hurt(self.random, now)
            self.next_hurt = now + self.random.uniform(2, 12)
        if self.reloads and now >= self.next_reload:
            self.reload()
            self.next_reload = now + self.random.uniform(1, 15)

    def reload(self):
        addresses = self.fleet.addresses()
        admissions = {address: self.random.choice(("open", "open", "draining", "barred")) for address in addresses[2:]}
        left_out = [address for address in addresses[2:] if self.random.random() < 0.2]
        self.random.shuffle(addresses)
        for subject in self.subjects:
            subject.homing.write(settings(addresses, admissions, left_out))
            subject.homing.hang_up()
        self.reloaded += 1


def soak(subjects, churn, options, report):
    """The run itself, and the leaving of the clients."""
    begin, seconds = time.monotonic(), options.minutes * 60
    next_sample, minute, previous = 0.0, 0, 0.0
    while (elapsed := time.monotonic() - begin) < seconds:
        churn.still, previous = max(churn.still, elapsed - previous), elapsed
        churn.turn(elapsed)
        for subject in subjects:
            if not subject.homing.is_alive():
                raise SystemExit(f"{subject.runtime} has ended by itself:\n{subject.homing.said()[-3000:]}")
            if not subject.crowd.is_alive():
                raise SystemExit(f"the clients of {subject.runtime} have ended by themselves")
        if elapsed >= next_sample:
            next_sample += SAMPLE_SECONDS
            last = {}
            for subject in subjects:
                last[subject] = subject.sample(elapsed)
                subject.ledger.read()
            if elapsed >= (minute + 1) * 60:
                minute += 1
                for subject in subjects:
                    print(json.dumps(subject.report(minute, last[subject])), file=report, flush=True)
                said = ", ".join(
                    f"{each.runtime} {last[each]['rss']} KiB {last[each]['descriptors']} fds {each.ledger.complaint_count} complaints"
                    for each in subjects
                )
                print(f"minute {minute}: {said}", flush=True)
        time.sleep(0.1)
    for subject in subjects:
        subject.crowd.terminate()
    # Whoever waits for an answer now gets one within the time-outs, from hosts that are all well again.
    churn.fleet.heal(float("inf"))
    for subject in subjects:
        subject.crowd.join(clients.PATIENCE_SECONDS + 10)
        if subject.crowd.exitcode != 0:
            subject.ledger.complain(f"the clients did not end well: {subject.crowd.exitcode}")
    wait_for_quiet(subjects)


def wait_for_quiet(subjects):
    """Until every subject has as few descriptors as at its start, or the longest time-out has passed."""
    end = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < end:
        for subject in subjects:
            subject.descriptors_after = subject.homing.descriptors()
        if all(subject.descriptors_after <= subject.descriptors_before for subject in subjects):
            break
        time.sleep(0.2)


def verdict(subject, options, reloads):
    """Prints the accounts of one runtime; whether all is well."""
    ledger, well = subject.ledger, True

    def check(what, holds, figures, judged=True):
        nonlocal well
        word = ("PASS" if holds else "FAIL") if judged else "INFO"
        well &= holds or not judged
        print(f"{word} {subject.runtime}: {what}: {figures}")

    for kind, name in (("rss", "memory, resident"), ("own", "memory, heap and stacks"), ("pss", "memory, proportional")):
        early, late = subject.medians(options.minutes * 60, kind)
        if early and late:
            figures = f"{early:.0f} KiB early, {late:.0f} KiB in the last half, ratio {late / early:.3f}"
            judged = options.minutes >= JUDGED_MINUTES and kind == "rss"
            check(name, late <= GROWTH_MAX * early, figures, judged)
    before, after = subject.descriptors_before, subject.descriptors_after
    check("descriptors", after is not None and after <= before, f"{before} at the start, {after} at the end")
    figures = (
        f"{ledger.requests} requests and {ledger.hostile_lines} lines of hostile bytes, {ledger.logged} lines in all, "
        f"{ledger.unlogged} without a line for a reason, {ledger.moved} sessions moved, {ledger.complaint_count} complaints"
    )
    check("accounts", ledger.complaint_count == 0 and ledger.requests > 0, figures)
    for complaint in ledger.complaints:
        print(f"     {complaint}")
    if reloads:
        said = collections.Counter(re.findall(r"reload\.[a-z_]+", subject.homing.said()))
        taken = said["reload.applied"] + said["reload.unchanged"]
        holds = said["reload.applied"] > 0 and taken >= reloads and said["reload.rejected"] == 0
        check("reload", holds, f"{reloads} signals: {dict(said)}")
    check("exit", subject.status == 0, f"status {subject.status}")
    return well


def outcomes(subjects, counter):
    """A table of counts, a column for each runtime."""
    counters = [counter(subject.ledger) for subject in subjects]
    for name in sorted(set().union(*counters)):
        print(f"  {name:<58}" + "".join(f"{each[name]:>10}" for each in counters))


def read_options():
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="by default the time")
    parser.add_argument("--load", type=float, default=1.0, help="how many clients, as a factor")
    parser.add_argument("--reload", action="store_true", help="rewrite the configuration and send SIGHUP, again and again")
    parser.add_argument("--report", help="where the lines of JSON go; by default .cache/soak/SEED.jsonl")
    parser.add_argument("--keep", action="store_true", help="leave logs and journals where they are, and say where")
    return parser.parse_args()


def main():
    options = read_options()
    seed = options.seed if options.seed is not None else int(time.time())
    binary = find_homing(options.homing)
    limit = descriptor_limit()
    if limit < 4096:
        raise SystemExit(f"soak.py: the limit on descriptors is {limit}, 4096 are needed")
    report = options.report or os.path.join(hosts.__file__, "../../../.cache/soak", f"{seed}.jsonl")
    report = os.path.normpath(report)
    os.makedirs(os.path.dirname(report) or ".", exist_ok=True)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"soak.py: {version}, seed {seed}, {options.minutes:g} minutes, {options.runtimes}, load {options.load:g}, "
          f"reload {'on' if options.reload else 'off'}, report {report}", flush=True)
    context = multiprocessing.get_context("fork")
    work = tempfile.mkdtemp(prefix="homing-soak-")
    fleet, subjects = hosts.Fleet(context, HOSTS), []
    try:
        fleet.wait()
        for runtime in options.runtimes.split(","):
            subjects.append(Subject(runtime, work, binary, fleet.addresses()))
        for subject in subjects:
            subject.begin(context, seed, options.load)
        churn = Churn(fleet, seed, subjects, options.reload)
        with open(report, "w") as file:
            soak(subjects, churn, options, file)
        for subject in subjects:
            subject.status = subject.homing.stop()
            subject.ledger.close()
        print(f"hosts killed {fleet.kills} times, stopped {fleet.stalls} times; {churn.reloaded} reloads; "
              f"the longest that the machine kept this script waiting: {churn.still:.1f} s")
        print(f"  {'lines by listener, reason and ending':<58}" + "".join(f"{each.runtime:>10}" for each in subjects))
        outcomes(subjects, lambda ledger: ledger.outcomes)
        print("  what clients saw")
        outcomes(subjects, lambda ledger: ledger.seen)
        return 0 if all([verdict(subject, options, churn.reloaded) for subject in subjects]) else 1
    finally:
        for subject in subjects:
            if getattr(subject, "crowd", None) and subject.crowd.is_alive():
                subject.crowd.kill()
            subject.homing.kill()
        fleet.stop()
        if options.keep:
            print(f"logs and journals are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    guarded(main)
