#!/usr/bin/env python3
"""socket.io through a rolling restart: long polling, upgrades and WebSockets, and no `Session ID unknown`.

    rolling.py [--clients 30] [--rounds 2] [--runtimes monoio,mio,tokio] [--homing PROGRAM]

Two Node instances of a socket.io server behind Homing, with sessions in a cookie; clients of all transports that send
messages all the while. One instance after another is told to end: it sends new sessions away, deleting their cookie,
asks its clients to reconnect, and ends when they have left; then it is started again. Homing places whoever comes
anew, and writes the cookie that leads every later poll, and the upgrade, to the same instance. (The cookie is kept by
socket.io's own client: `withCredentials` does that in Node since 4.7.) Needs conformance/install.sh.

  sticky     no instance ever got a poll of a session that it does not know; no message was lost or came from a
             stranger, every client is connected at the end, and upgrades took place
  control    the same clients without sessions: `Session ID unknown` must be seen, or this test would show nothing

Exit status: 0 all passed, 1 not so, 2 it could not run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "soak"))

import hosts
from proxy import ROOT, Homing, arguments, find_homing, guarded

# For a person's sake only.
PATIENCE_SECONDS = 30
COOKIE = "sid"


class Instance:
    """A server that is restarted on its port; what all its lives have printed is in its log."""

    def __init__(self, name, port, work):
        self.name, self.port, self.path = name, port, os.path.join(work, f"instance-{name}.log")
        self.log, self.process = open(self.path, "ab"), None
        self.start()

    def said(self, word):
        with open(self.path) as file:
            return [line for line in file if line.startswith(word)]

    def start(self):
        before = len(self.said("ready"))
        command = ["node", os.path.join(HERE, "server.mjs"), self.name, str(self.port), COOKIE]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait(f"instance {self.name}", lambda: self.process.poll() is None and len(self.said("ready")) > before)

    def drain(self):
        """Ends when its last client has left; whether it did."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Clients:
    def __init__(self, port, count):
        self.count = count
        command = ["node", os.path.join(HERE, "clients.mjs"), f"http://127.0.0.1:{port}", str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tally(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def settled(self, echoes=0):
        """Whether all are connected, and so many echoes have come."""
        tally = self.tally()
        return tally["connected"] == self.count and tally["echoes"] >= echoes

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait(what, look):
    end = time.monotonic() + PATIENCE_SECONDS
    while not look():
        if time.monotonic() > end:
            raise SystemExit(f"rolling.py: {what} is not ready after {PATIENCE_SECONDS} s")
        time.sleep(0.02)


def settings(addresses):
    cookie = {"cookieBased": {"cookie": {"name": COOKIE, "path": "/", "ttl": "1h"}}}
    routes = [{"forward": {"cluster": "app"}}]
    return {
        "listeners": [
            {"name": "sticky", "address": "127.0.0.1:0", "statefulSession": cookie, "routes": routes},
            {"name": "control", "address": "127.0.0.1:0", "routes": routes},
        ],
        "clusters": [{"name": "app", "hosts": addresses}],
    }


def control(homing, instances, count):
    """What is wrong: nothing, if sessions are lost where there is no stickiness."""
    before = sum(len(instance.said("unknown")) for instance in instances)
    clients, end = Clients(homing.ports["control"], count), time.monotonic() + PATIENCE_SECONDS
    try:
        while time.monotonic() < end:
            if sum(len(instance.said("unknown")) for instance in instances) > before:
                return None
            time.sleep(0.05)
    finally:
        clients.stop()
    return "without sessions no session id is unknown either, so that this test would show nothing"


def sticky(homing, instances, options):
    """What is wrong, and figures."""
    before, wrong = {instance: len(instance.said("unknown")) for instance in instances}, []
    clients = Clients(homing.ports["sticky"], options.clients)
    try:
        wait("a client", lambda: clients.settled(options.clients))
        for _ in range(options.rounds):
            for instance in instances:
                if not instance.drain():
                    wrong.append(f"instance {instance.name} did not end by itself")
                # All are at home with the others before this one is back.
                echoes = clients.tally()["echoes"]
                wait("every client", lambda: clients.settled(echoes + 5 * options.clients))
                instance.start()
        echoes = clients.tally()["echoes"]
        wait("every client", lambda: clients.settled(echoes + 5 * options.clients))
        tally = clients.tally()
    finally:
        clients.stop()
    unknown = [line for instance in instances for line in instance.said("unknown")[before[instance] :]]
    if unknown or any("Session ID unknown" in error for error in tally["errors"]):
        wrong.append(f"{len(unknown)} polls of unknown sessions, as: {unknown[:3]}")
    for name in ("wrong", "lost", "moved"):
        if tally[name]:
            wrong.append(f"{name}: {tally[name]}")
    if tally["upgrades"] == 0 or tally["leaves"] < options.clients:
        wrong.append("there were no upgrades, or too few clients were asked to leave")
    return "; ".join(wrong) + (f": {tally}" if wrong else ""), (
        f"{options.clients} clients, {2 * options.rounds} restarts, {tally['leaves']} reconnections, {tally['upgrades']} "
        f"upgrades, {tally['echoes']} echoes; errors {tally['errors'] or 'none'}"
    )


def try_runtime(runtime, ports, options, work, binary):
    homing, instances = None, []
    try:
        for name, port in zip(("one", "two"), ports):
            instances.append(Instance(f"{runtime}-{name}", port, work))
        homing = Homing(f"homing-{runtime}", settings([f"127.0.0.1:{port}" for port in ports]), work, runtime, binary)
        results = [("sticky", *sticky(homing, instances, options))]
        # Behind it: sessions that are lost are missed by their instance for a while.
        results.append(("control", control(homing, instances, 6), "sessions are lost, as they must be"))
        for name, wrong, figures in results:
            print(f"{'FAIL' if wrong else 'PASS'} {runtime}: {name}: {wrong or figures}", flush=True)
        return homing.stop() == 0 and not any(wrong for _, wrong, _ in results)
    finally:
        for instance in instances:
            instance.stop()
        if homing:
            homing.kill()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2, help="how often each instance is restarted")
    options = parser.parse_args()
    binary = find_homing(options.homing)
    if not os.path.isdir(os.path.join(ROOT, ".cache/node/node_modules/socket.io")):
        raise SystemExit("rolling.py: socket.io is not installed; run conformance/install.sh")
    work, held = tempfile.mkdtemp(prefix="homing-socketio-"), [hosts.hold() for _ in range(2)]
    try:
        ports = [each.getsockname()[1] for each in held]
        wells = [try_runtime(runtime, ports, options, work, binary) for runtime in options.runtimes.split(",")]
    finally:
        for each in held:
            each.close()
        shutil.rmtree(work, ignore_errors=True)
    return 0 if all(wells) else 1


if __name__ == "__main__":
    guarded(main)
