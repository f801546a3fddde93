#!/usr/bin/env python3
"""A mixed fleet: the real Envoy and two Homing processes before the same hosts. Whoever gave a session its token, all
lead it home.

    .cache/venv/bin/python conformance/live/fleet.py [--runtimes monoio,tokio] [--homing PROGRAM] [--envoy BINARY]

Needs a release build (or --homing), conformance/live/install.sh, and curl. Every check is made for every pair of a
proxy that gives the token and one that gets it: in a cookie, a header and an envelope, as the legacy text, after its
expiry, strict with its host gone, through a WebSocket, and with the cookie jars of curl and Python's requests, which
go round the fleet. And new sessions go to degraded hosts and to those of a second priority in the same share at each.
Waits once, for an expiry to pass. Prints a line per check; exit status 1 if one failed, 2 if it could not run.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time

import world
from world import Cluster, Listener, Route, Session

try:
    import requests
    from websockets.sync.client import connect
except ImportError as error:
    print(f"fleet.py: {error}; run conformance/live/install.sh, and this with .cache/venv/bin/python", file=sys.stderr)
    sys.exit(2)

ROUNDS = 4
ORIGIN = "origin-7"
# Hosts by their health, those of a second priority behind a slash; and the share of new sessions that goes to the degraded
# and to the second: none while the healthy ones times 1.4 suffice, then what is missing, and what their number says once
# all together do not suffice.
RESERVES = {
    "spare": ("HHHHD", 0.0), "short": ("HHHDDD", 0.3), "scarce": ("HDUU", 0.5), "all": ("DDD", 1.0),
    "first": ("HHHU/HH", 0.0), "both": ("HU/HH", 0.3), "second": ("UU/HH", 1.0), "before": ("HHDD/H", 0.3),
}
HEALTH = {"H": "HEALTHY", "D": "DEGRADED", "U": "UNHEALTHY"}
NEW_SESSIONS = 1000
# Five standard deviations of the shares above, at so many sessions.
SHARE_OFF = 0.08


def reserve(name):
    """Host, state and priority of each."""
    first, _, second = RESERVES[name][0].partition("/")
    levels = [0] * len(first) + [1] * len(second)
    return list(zip("abcdef", first + second, levels))


def settings(address):
    """The fleet's listeners: `less` and `less-firm` lack host c, as after a scale-down."""
    health = ("UNKNOWN", "HEALTHY", "DEGRADED")
    listeners, clusters = [], []

    def listener(name, hosts, session):
        clusters.append(Cluster(f"{name}-hosts", tuple((address[host], "UNKNOWN") for host in hosts), health))
        listeners.append(Listener(name, session, (Route("/", ((f"{name}-hosts", 1),)),)))

    listener("cookie", "abc", Session("cookie", "sid", "/", life=600))
    listener("brief", "abc", Session("cookie", "sid", "/", life=1))
    listener("less", "ab", Session("cookie", "sid", "/", life=600))
    listener("less-firm", "ab", Session("cookie", "sid", "/", life=600, strict=True, gone=410))
    listener("header", "abc", Session("header", "x-session-id"))
    listener("envelope", "abc", Session("envelope", "mcp-session-id"))
    for name in RESERVES:
        hosts = tuple((address[host], HEALTH[state]) for host, state, _ in reserve(name))
        levels = tuple(level for *_, level in reserve(name))
        clusters.append(Cluster(f"{name}-hosts", hosts, health, levels))
        listeners.append(Listener(name, Session("cookie", "sid", "/"), (Route("/", ((f"{name}-hosts", 1),)),)))
    return listeners, clusters


class Fleet:
    """The proxies, and the checks' results."""

    def __init__(self, proxies, hosts):
        self.proxies, self.hosts = proxies, hosts
        self.checks = self.failures = 0

    def pairs(self):
        return [(giver, getter) for giver in self.proxies for getter in self.proxies]

    def ask(self, proxy, listener, *fields, told=None):
        lines = ["GET / HTTP/1.1", "host: t.example", *fields]
        if told:
            lines.append("x-case: " + base64.b64encode(told.encode()).decode())
        client = world.Client(proxy.ports[listener])
        try:
            return client.ask("\r\n".join([*lines, "", ""]).encode())
        finally:
            client.close()

    def check(self, what, complaints):
        """Complaints are of the pairs for which it does not hold."""
        complaints = [complaint for complaint in complaints if complaint]
        self.checks += 1
        self.failures += bool(complaints)
        print("FAIL" if complaints else "PASS", what, flush=True)
        for complaint in complaints:
            print(f"     {complaint}")

    def begin(self, proxy, listener):
        """A new session by cookie: its home, and the line that leads there."""
        answer = self.ask(proxy, listener)
        cookies = answer.values(b"set-cookie")
        if len(cookies) != 1:
            raise SystemExit(f"{proxy.name} sets {len(cookies)} cookies for a new session: {answer}")
        return answer.host, "cookie: " + cookies[0].decode().split(";")[0]

    # ------------------------------------------------------------ checks

    def cookies(self):
        def stays(giver, getter):
            home, line = self.begin(giver, "cookie")
            for _ in range(ROUNDS):
                answer = self.ask(getter, "cookie", line)
                if answer.host != home or answer.values(b"set-cookie"):
                    return f"{giver.name} to {getter.name}: {home}, then {answer.host}, {answer.values(b'set-cookie')}"
            return None

        self.check("a cookie of any leads home at all", (stays(*pair) for pair in self.pairs()))

    def headers(self):
        def stays(giver, getter):
            first = self.ask(giver, "header")
            [token] = first.values(b"x-session-id") or [b""]
            answers = [self.ask(getter, "header", "x-session-id: " + token.decode()) for _ in range(ROUNDS)]
            wrong = [answer for answer in answers if answer.host != first.host or answer.values(b"x-session-id")]
            return f"{giver.name} to {getter.name}: {first.host}, then {wrong[0]}" if wrong else None

        self.check("a header of any leads home at all", (stays(*pair) for pair in self.pairs()))

    def envelopes(self):
        told = '{"headers": [["mcp-session-id", "%s"]]}' % ORIGIN

        def stays(giver, getter):
            first = self.ask(giver, "envelope", told=told)
            [envelope] = first.values(b"mcp-session-id") or [b""]
            for _ in range(ROUNDS):
                answer = self.ask(getter, "envelope", "mcp-session-id: " + envelope.decode(), told=told)
                inner = world.values(answer.saw[1], b"mcp-session-id") if answer.saw else None
                if answer.host != first.host or inner != [ORIGIN.encode()]:
                    return f"{giver.name} to {getter.name}: {first.host}, then {answer.host}, which saw {inner}"
                if answer.values(b"mcp-session-id") != [envelope]:
                    return f"{giver.name} to {getter.name}: {envelope}, then {answer.values(b'mcp-session-id')}"
            return None

        self.check("an envelope of any leads home at all, and the host sees its own", (stays(*p) for p in self.pairs()))

    def legacy(self):
        def stays(proxy, host):
            line = "cookie: sid=" + base64.b64encode(host.encode()).decode()
            answers = [self.ask(proxy, "cookie", line) for _ in range(ROUNDS)]
            wrong = [answer for answer in answers if answer.host != host or answer.values(b"set-cookie")]
            return f"{proxy.name}: {host} gives {wrong[0].host}" if wrong else None

        homes = [self.hosts.address[name] for name in "abc"]
        self.check("a legacy text leads home at all", (stays(proxy, home) for proxy in self.proxies for home in homes))

    def expiry(self):
        begun = [(giver, getter, *self.begin(giver, "brief")) for giver, getter in self.pairs()]
        # A cookie counts in the second of its expiry too.
        over = int(time.time()) + 2
        while int(time.time()) < over:
            time.sleep(0.05)

        def ends(giver, getter, _, line):
            answers = [self.ask(getter, "brief", line) for _ in range(3)]
            hosts = {answer.host for answer in answers}
            cookies = [len(answer.values(b"set-cookie")) for answer in answers]
            fine = len(hosts) == 3 and cookies == [1, 1, 1]
            return None if fine else f"{giver.name} to {getter.name}: {hosts}, {cookies} cookies"

        self.check("an expired cookie of any is placed anew by all", (ends(*session) for session in begun))

    def gone(self):
        def of_the_missing(giver):
            for _ in range(3):
                home, line = self.begin(giver, "cookie")
                if home == self.hosts.address["c"]:
                    return line
            raise SystemExit(f"{giver.name} placed three sessions and none on the third host")

        tokens = {giver.name: of_the_missing(giver) for giver in self.proxies}

        def refused(giver, getter):
            answer = self.ask(getter, "less-firm", tokens[giver.name])
            fine = answer.status == 410 and answer.host is None and not answer.values(b"set-cookie")
            return None if fine else f"{giver.name} to {getter.name}: {answer}"

        def moved(giver, getter):
            answer = self.ask(getter, "less", tokens[giver.name])
            [cookie] = answer.values(b"set-cookie") or [b""]
            line = "cookie: " + cookie.decode().split(";")[0]
            back = [self.ask(giver, "less-firm", line).host for _ in range(ROUNDS)]
            fine = answer.status == 200 and set(back) == {answer.host}
            return None if fine else f"{giver.name} to {getter.name}: {answer.host}, then {back}"

        self.check("strict: a session whose host is gone is refused by all", (refused(*pair) for pair in self.pairs()))
        self.check("soft: it is placed anew, and its new cookie counts at all", (moved(*pair) for pair in self.pairs()))

    def sockets(self):
        def stays(giver, getter):
            home, line = self.begin(giver, "cookie")
            port, cookie = getter.ports["cookie"], line.removeprefix("cookie: ")
            with connect(f"ws://127.0.0.1:{port}/ws", additional_headers={"Cookie": cookie}, proxy=None) as socket:
                for number in range(ROUNDS):
                    socket.send(f"message {number}")
                    echo = socket.recv(timeout=world.PATIENCE_SECONDS)
                    if echo != f"{home}: message {number}":
                        return f"{giver.name} to {getter.name}: {home}, but {echo!r}"
                    # The session goes on beside its WebSocket, at the one that gave it.
                    if self.ask(giver, "cookie", line).host != home:
                        return f"{giver.name}, beside a WebSocket at {getter.name}: not {home} any more"
            return None

        self.check("a WebSocket with a cookie of any opens at home at all", (stays(*pair) for pair in self.pairs()))

    def round_the_fleet(self):
        return [f"http://127.0.0.1:{proxy.ports['cookie']}/" for proxy in self.proxies] * ROUNDS

    def curl(self, folder):
        def stays(number):
            jar, homes, cookies = os.path.join(folder, f"jar-{number}"), set(), 0
            first = self.round_the_fleet()[number:]
            for url in first:
                command = ["curl", "-sSi", "--noproxy", "*", "-b", jar, "-c", jar, url]
                head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
                homes |= {line[6:].strip() for line in head if line.startswith("x-be: ")}
                cookies += sum(line.startswith("set-cookie: ") for line in head)
            fine = len(homes) == 1 and cookies == 1
            return None if fine else f"begun at {self.proxies[number].name}: {homes}, {cookies} cookies"

        self.check("curl's jar goes round the fleet with one cookie", map(stays, range(len(self.proxies))))

    def reserve(self):
        def share(proxy, name):
            states, wanted = RESERVES[name]
            later = {self.hosts.address[host] for host, state, level in reserve(name) if state == "D" or level}
            client = world.Client(proxy.ports[name])
            ask = b"GET / HTTP/1.1\r\nhost: t.example\r\n\r\n"
            found = sum(client.ask(ask).host in later for _ in range(NEW_SESSIONS)) / NEW_SESSIONS
            client.close()
            is_near = found == wanted if wanted in (0.0, 1.0) else abs(found - wanted) < SHARE_OFF
            return None if is_near else f"{proxy.name}, {states}: {found:.1%} of new sessions, not {wanted:.0%}"

        shares = (share(proxy, name) for name in RESERVES for proxy in self.proxies)
        self.check("degraded hosts and a second priority get the same share of new sessions at all", shares)

    def python_requests(self):
        def stays(number):
            homes, cookies = set(), 0
            with requests.Session() as session:
                session.trust_env = False
                for url in self.round_the_fleet()[number:]:
                    answer = session.get(url, timeout=world.PATIENCE_SECONDS)
                    homes.add(answer.headers["x-be"])
                    cookies += "set-cookie" in answer.headers
            fine = len(homes) == 1 and cookies == 1
            return None if fine else f"begun at {self.proxies[number].name}: {homes}, {cookies} cookies"

        self.check("Python requests' jar goes round the fleet with one cookie", map(stays, range(len(self.proxies))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", default="monoio,tokio", help="one Homing process for each")
    parser.add_argument("--homing", help="the program; by default target/release/homing")
    parser.add_argument("--envoy", help="the binary; by default that of .cache/venv")
    options = parser.parse_args()
    binary = world.find_homing(options.homing)
    if not shutil.which("curl"):
        raise SystemExit("fleet.py: there is no curl")
    with tempfile.TemporaryDirectory(prefix="homing-fleet-") as folder:
        hosts = world.Hosts()
        listeners, clusters = settings(hosts.address)
        proxies = []
        try:
            proxies.append(world.Envoy(listeners, clusters, folder, options.envoy))
            for runtime in options.runtimes.split(","):
                name = f"homing-{runtime}"
                proxies.append(world.Homing(listeners, clusters, folder, runtime, binary, name))
            fleet = Fleet(proxies, hosts)
            for check in (fleet.cookies, fleet.headers, fleet.envelopes, fleet.legacy, fleet.expiry, fleet.gone,
                          fleet.sockets, fleet.reserve, fleet.python_requests):
                check()
            fleet.curl(folder)
            fleet.check("all are still there", (None if each.is_alive() else each.name for each in proxies))
        finally:
            for proxy in proxies:
                proxy.stop()
            hosts.stop()
    print(f"fleet.py: {fleet.checks - fleet.failures} of {fleet.checks} checks passed, on {options.runtimes} and Envoy")
    return 1 if fleet.failures else 0


if __name__ == "__main__":
    world.guarded(main)
