#!/usr/bin/env python3
"""Debian's slowhttptest against each shell: the server stays available, and attackers are shut out by time-outs.

    slow_attacks.py [--connections 300] [--runtimes monoio,mio,tokio] [--homing PROGRAM]

Four attacks: slow heads (slowloris, -H), slow bodies (-B), slow reading (-X), and the many ranges once called Apache
killer (-R). During each, an honest client asks again and again on connections of its own.

  available   every honest request is answered 200 (the slowest is told), and slowhttptest's own probe never fails
  shut out    Homing has closed all attacking connections long before the test would have ended by itself
  logged      the attackers' requests end in the access log as they should (all but -R: the client's time-out)

A slow reader learns only when it has read what its kernel holds that its connection was reset, which takes it minutes; so
there it is Homing's descriptors that must be back to what they were. The shells are attacked at the same time. Exit status: 0 all passed, 1 not so, 2 it could not run.
"""

import csv
import http.client
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "soak"))

import hosts
from proxy import Homing, Tail, arguments, descriptor_limit, find_homing, guarded

# For the honest client and the probe. Generous, since the machine may be busy with the attack itself; one that is kept
# out waits for ever.
PATIENCE_SECONDS = 10
# More than the kernel holds for one connection.
LARGE = 6_000_000
TEST_SECONDS = 60
LIMITS = {
    "requestHeadTimeout": "3s", "bodyIdleTimeout": "3s", "keepAliveTimeout": "3s", "responseTimeout": "10s",
    "lingerTimeout": "1s",
}
# By name: options, and the ending of the attackers' lines in the access log where it is the point.
ATTACKS = {
    "slow heads": (["-H", "-i", "1", "-x", "24", "-t", "GET"], "client_timeout"),
    # A body that grows is no standstill: what comes less often than the time-out is.
    "slow bodies": (["-B", "-i", "5", "-x", "10", "-s", "8192"], "client_timeout"),
    "slow reading": (["-X", "-n", "1", "-z", "5", "-w", "1", "-y", "64", "-k", "1"], "client_timeout"),
    "many ranges": (["-R", "-a", "5", "-b", "2000"], None),
}


class Honest:
    """A client that wants nothing but an answer, on a connection of its own each time."""

    def __init__(self, port):
        self.port, self.count, self.slowest, self.failures = port, 0, 0.0, []

    def ask(self):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/honest?id=honest&n=100")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.failures.append(f"status {answer.status}")
        except OSError as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()
        self.count, self.slowest = self.count + 1, max(self.slowest, time.monotonic() - began)


def took_all(lines, count, found):
    """Adds the attackers' endings that have come to `found`; whether enough of them are the client's time-out."""
    found += [json.loads(line)["ending"] for line in lines.lines() if b"/honest" not in line]
    return found.count("client_timeout") >= count


def at_rest(homing, before):
    """Whether Homing has let go of the attackers: it may keep links to the hosts, and the honest client's connection."""
    return homing.descriptors() <= before + 10


def attack(runtime, name, options, homing, work):
    """Runs one attack; what is wrong, if anything, and figures."""
    flags, ending = ATTACKS[name]
    port, prefix = homing.ports["web"], os.path.join(work, f"{runtime}-{name.replace(' ', '-')}")
    is_reading = "-X" in flags
    url = f"http://127.0.0.1:{port}/get?id=attack&n={LARGE if is_reading else 9}&shared=1"
    command = [
        "slowhttptest", *flags, "-c", str(options.connections), "-r", str(options.rate), "-l", str(TEST_SECONDS),
        "-p", str(PATIENCE_SECONDS), "-u", url, "-g", "-o", prefix, "-v", "1",
    ]
    before, found = homing.at_rest(), []
    lines, honest, began = Tail(homing.access_log), Honest(port), time.monotonic()
    lines.lines()
    with open(prefix + ".out", "w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            is_over = False
            while process.poll() is None and not is_over and time.monotonic() - began < TEST_SECONDS:
                honest.ask()
                time.sleep(0.1)
                is_over = is_reading and took_all(lines, options.connections, found) and at_rest(homing, before)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    took = time.monotonic() - began
    wrong = [f"{len(honest.failures)} honest requests failed: {honest.failures[0]}"] if honest.failures else []
    with open(prefix + ".csv", newline="") as file:
        rows = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    if not rows or any(int(row["Service Available"]) == 0 for row in rows):
        wrong.append("slowhttptest's probe says that the service was not available")
    with open(prefix + ".out", errors="replace") as file:
        said = re.sub(r"\x1b\[[0-9;]*m", "", file.read())
    if not is_over and "No open connections left" not in said:
        wrong.append(f"not all attackers were shut out: {said[-400:]!r}")
    end = time.monotonic() + 5
    while ending and not took_all(lines, options.connections, found) and time.monotonic() < end:
        time.sleep(0.05)
    if ending and found.count(ending) < options.connections:
        wrong.append(f"{found.count(ending)} lines with the ending {ending}")
    figures = (
        f"{options.connections} attackers, all shut out after {took:.0f} s; {honest.count} honest requests, the slowest "
        f"{honest.slowest * 1000:.0f} ms"
    )
    return "; ".join(wrong), figures


def try_runtime(runtime, addresses, options, work, binary):
    routes = [
        {"path": {"prefix": "/honest"}, "rewrite": {"prefix": "/get"}, "forward": {"cluster": "honest"}},
        {"forward": {"cluster": "app"}},
    ]
    settings = {
        "limits": {**LIMITS, "hostIdle": 4},
        "listeners": [{"name": "web", "address": "127.0.0.1:0", "routes": routes}],
        # The honest client has a host of its own: it is Homing that is attacked.
        "clusters": [{"name": name, "hosts": [address]} for name, address in zip(("app", "honest"), addresses)],
    }
    homing, well = Homing(f"homing-{runtime}", settings, work, runtime, binary), True
    try:
        for name in ATTACKS:
            wrong, figures = attack(runtime, name, options, homing, work)
            well &= not wrong
            print(f"{'FAIL' if wrong else 'PASS'} {runtime}: {name}: {wrong or figures}", flush=True)
        return homing.ends_well() and well
    finally:
        homing.kill()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--rate", type=int, default=100, help="new attackers a second")
    options = parser.parse_args()
    binary = find_homing(options.homing)
    descriptor_limit()
    if not shutil.which("slowhttptest"):
        raise SystemExit("slow_attacks.py: there is no slowhttptest; run conformance/install.sh")
    runtimes = options.runtimes.split(",")
    work, fleet = tempfile.mkdtemp(prefix="homing-attacks-"), hosts.Fleet(multiprocessing.get_context("fork"), 2)
    try:
        fleet.wait()
        with ThreadPoolExecutor(len(runtimes)) as pool:
            wells = list(pool.map(lambda each: try_runtime(each, fleet.addresses(), options, work, binary), runtimes))
    finally:
        fleet.stop()
        shutil.rmtree(work, ignore_errors=True)
    return 0 if all(wells) else 1


if __name__ == "__main__":
    guarded(main)
