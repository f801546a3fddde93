#!/usr/bin/env python3
"""One bootstrap, two programs: the real Envoy and `homing run --envoy` start from the same file, ports apart, and must
do the same with the same requests.

    conformance/live/bootstrap.py [--runtime monoio] [--homing PROGRAM] [--envoy BINARY]

The file is ../../docs/examples/envoy/bootstrap.yaml, an example of the manual. Both read one copy of it, with
free ports in place of the listeners' and the hosts' in place of the clusters'. Needs a release build (or --homing) and
conformance/live/install.sh; takes a few seconds. Every check prints a line; exit status 1 if one failed, 2 if it could
not run.

What is compared: the status, the body, the lines of `projection.py`, what the host received, and the host. Which host
a balancer chooses is chance, so there the *choice* is compared: that a token of either leads both to its host, and that
hosts which must not be chosen are not. Row 9 of the ledger (weighted routes keep their sessions) is the one difference
that a check names.
"""

import argparse
import base64
import json
import os
import random
import re
import socket
import tempfile
import time

import projection
import world

EXAMPLE = os.path.join(world.ROOT, "docs", "examples", "envoy", "bootstrap.yaml")
ROUNDS = 8
PATHS, PATHS_SEED = 1000, 2026
# Of the example: ports of hosts by cluster, and the one that is drained.
STABLE, DRAINED, CANARY = (9001, 9002), 9003, 9004
LISTENERS = (8080, 9901)


def write_copy(path, ports):
    """The example with other ports; each of those it has must be known."""
    with open(EXAMPLE) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(re.sub(r"port_value: (\d+)", lambda found: f"port_value: {ports[int(found.group(1))]}", text))


class Envoy(world.Envoy):
    def __init__(self, folder, path, binary):
        admin = os.path.join(folder, "envoy-admin")
        options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        command = [binary or world.find_envoy(), "-c", path, *options, "--admin-address-path", admin]
        world.Proxy.__init__(self, "envoy", command, folder)
        self.admin = "http://" + self.wait_for("admin address", lambda: world.text_of(admin))
        self.ports = self.wait_for("listeners", lambda: self.listening(1))


class Homing(world.Homing):
    def __init__(self, folder, path, runtime, binary):
        command = [binary, "run", "--envoy", path, "--runtime", runtime, "--workers", "1"]
        world.Proxy.__init__(self, "homing", command, folder)
        self.wait_for("ready line", lambda: "homing is ready" in world.text_of(self.log))
        ready = next(line for line in world.text_of(self.log).splitlines() if "homing is ready" in line)
        self.ports = {each: int(port) for each, port in re.findall(r"([\w-]+) on 127\.0\.0\.1:(\d+)", ready)}


class Trial:
    def __init__(self, envoy, homing, address):
        self.proxies, self.address = (envoy, homing), address
        self.checks = self.failures = 0

    def ask(self, proxy, target="/", *fields, method="GET", host="site.example", told=None):
        lines = [f"{method} {target} HTTP/1.1", f"host: {host}", *fields]
        if told is not None:
            lines.append("x-case: " + base64.b64encode(json.dumps(told).encode()).decode())
        client = world.Client(proxy.ports["web"])
        try:
            return client.ask("\r\n".join([*lines, "", ""]).encode(), method == "HEAD")
        finally:
            client.close()

    def check(self, what, holds, found):
        self.checks += 1
        self.failures += not holds
        print("PASS" if holds else "FAIL", what, flush=True)
        if not holds:
            print(f"     {found}")

    def both(self, what, target, *fields, **more):
        """The same request to both, whose answers must be the same; and Homing's answer."""
        answers = [self.ask(proxy, target, *fields, **more) for proxy in self.proxies]
        seen = [self.seen(answer) for answer in answers]
        self.check(what, seen[0] == seen[1], f"envoy: {seen[0]}\n     homing: {seen[1]}")
        return answers[1]

    def seen(self, answer):
        if answer.host is None:
            # Its words are each program's own.
            return answer.status, projection.own_answer(answer.fields)
        first, fields, body = answer.saw
        seen = first, projection.lines(fields), body
        return answer.status, projection.lines(answer.fields), answer.body, answer.host, seen

    def cookie(self, port, life=3600):
        token = message(self.address[port].encode(), int(time.time()) + life)
        return "cookie: sid=" + base64.b64encode(token).decode()

    def header(self, address):
        return "x-session-id: " + base64.b64encode(address.encode()).decode()

    # ------------------------------------------------------------ checks

    def own_answers(self):
        answer = self.both("a direct response", "/version")
        self.check("its body", (answer.status, answer.body) == (200, b"7\n"), answer)
        self.both("a direct response to HEAD", "/version", method="HEAD")
        answers = [self.ask(proxy, "/old?x=1") for proxy in self.proxies]
        places = [answer.values(b"location")[0].split(b"site.example")[-1] for answer in answers]
        # Row 31: Homing writes the path alone.
        same = places[0] == places[1] == b"/new?x=1" and {answer.status for answer in answers} == {302}
        self.check("a redirect", same, answers)

    def cookies(self):
        tokens = []
        for proxy in self.proxies:
            answer = self.ask(proxy)
            [line] = answer.values(b"set-cookie") or [b""]
            form = re.fullmatch(rb'sid="([\w+/=]+)"; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly', line)
            self.check(f"{proxy.name} begins a session in a cookie", form and answer.status == 200, answer)
            tokens.append((proxy, "cookie: " + line.decode().split(";")[0], answer.host))
        for giver, line, home in tokens:
            for getter in self.proxies:
                answers = [self.ask(getter, "/", line) for _ in range(ROUNDS)]
                moved = [answer for answer in answers if answer.host != home]
                # Row 9: Envoy may draw the other cluster, and says so with a new token.
                is_kept = not moved or getter is self.proxies[0]
                is_told = all((answer.host != home) == bool(answer.values(b"set-cookie")) for answer in answers)
                self.check(f"a cookie of {giver.name} leads {getter.name} home", is_kept and is_told, answers)
        for proxy in self.proxies:
            answer = self.ask(proxy, "/", self.cookie(STABLE[0], life=-60))
            self.check(f"{proxy.name} replaces an expired cookie", len(answer.values(b"set-cookie")) == 1, answer)

    def one_cluster(self):
        for port in STABLE:
            self.both(f"a session of host {port} without weights", "/api/a?b=c", self.header(self.address[port]))
        self.both("a body", "/api/a", self.header(self.address[STABLE[0]]), told={"chunks": ["a", "bc"]})
        self.both("a status of the host's", "/api/a", self.header(self.address[STABLE[0]]), told={"status": 404})
        self.both("HEAD", "/api/a", self.header(self.address[STABLE[1]]), method="HEAD")
        inner = "a.internal.example"
        self.both("another virtual host", "/", self.cookie(CANARY), host=inner)
        self.both("its routes alone: no way back to the other's", "/version", self.cookie(CANARY), host=inner)

    def strict(self):
        self.both("a strict session whose host is unknown", "/api/", self.header("127.0.0.1:1"))
        self.both("a strict session of another cluster's host", "/api/", self.header(self.address[CANARY]))
        for proxy in self.proxies:
            answer = self.ask(proxy, "/api/", "x-session-id: !")
            minted = len(answer.values(b"x-session-id")) == 1 and answer.status == 200
            self.check(f"{proxy.name} places a damaged token anew, strict or not", minted, answer)

    def drained(self):
        self.both("a drained host keeps its sessions", "/api/", self.header(self.address[DRAINED]))
        for proxy in self.proxies:
            hosts = {self.ask(proxy, "/api/").host for _ in range(ROUNDS)}
            known = {self.address[port] for port in STABLE}
            self.check(f"{proxy.name} sends a drained host no new ones, and takes turns", hosts == known, hosts)

    def disabled(self):
        for proxy in self.proxies:
            answers = [self.ask(proxy, "/static/a", self.cookie(STABLE[0])) for _ in range(ROUNDS)]
            silent = not any(answer.values(b"set-cookie") for answer in answers)
            spread = {answer.host for answer in answers} == {self.address[port] for port in STABLE}
            self.check(f"{proxy.name} keeps no session where it is disabled", silent and spread, answers)

    def upgrades(self):
        home = self.address[STABLE[1]]
        lines = ["GET /api/ HTTP/1.1", "host: site.example", self.header(home), "connection: upgrade",
                 "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
        # A text, masked with zeros; the host puts its name in front.
        frame, said = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi", f"{home}: hi".encode()
        for proxy in self.proxies:
            client = world.Client(proxy.ports["web"])
            with socket.create_connection(("127.0.0.1", client.port), timeout=world.PATIENCE_SECONDS) as client.socket:
                client.socket.sendall("\r\n".join([*lines, "", ""]).encode() + frame)
                while not client.buffer.endswith(said):
                    client.more()
                first, *_ = world.head_of(client.buffer)
            self.check(f"{proxy.name} passes a WebSocket to its session's host", b" 101 " in first, client.buffer)

    def paths(self):
        """Random paths have the same normal form, which the host sees; without one, a path is refused."""
        pieces = ["/", "/", ".", "..", "a", "b;x", ";", "%2e", "%2F", "%5c", "\\", "%41", "%7e", "..;x", ".;y", "%20",
                  "{", "|", "'", "=", "%c3%a9", "%00", "?"]
        chance = random.Random(PATHS_SEED)
        wrong, refused, home = [], 0, self.header(self.address[STABLE[0]])
        for _ in range(PATHS):
            target = "/" + "".join(chance.choice(pieces) for _ in range(chance.randint(1, 9)))
            theirs, ours = ([answer.status, answer.saw and answer.saw[0]] for answer in
                            (self.ask(proxy, "/api/x" + target, home) for proxy in self.proxies))
            # Envoy passes on dots with parameters that come to light behind a backslash or an escape.
            hidden = theirs[1] is not None and re.search(rb"/\.\.?;", theirs[1].split(b"?")[0])
            refused += ours[0] == 400
            if theirs != ours and not (ours == [400, None] and hidden):
                wrong.append(f"{target}: envoy {theirs}, homing {ours}")
        enough = 0 < refused < PATHS / 2
        self.check(f"{PATHS} random paths, seed {PATHS_SEED}, {refused} refused", enough and not wrong, wrong[:5])

    def weights(self):
        """New sessions are drawn by weight: of the canary's tenth, not one in 300 is as good as impossible."""
        for proxy in self.proxies:
            answers = [self.ask(proxy) for _ in range(300)]
            drawn = sum(answer.host == self.address[CANARY] for answer in answers)
            self.check(f"{proxy.name} draws the canary now and then ({drawn} of 300)", 0 < drawn < 150, drawn)


def message(address, expires):
    """The cookie's message: field 1 the address, field 2 the expiry."""
    out = bytes([0x0A, len(address)]) + address + b"\x10"
    while expires > 0x7F:
        out += bytes([expires & 0x7F | 0x80])
        expires >>= 7
    return out + bytes([expires])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", default="monoio")
    parser.add_argument("--homing", help="the program; by default target/release/homing")
    parser.add_argument("--envoy", help="the binary; by default that of .cache/venv")
    options = parser.parse_args()
    binary = world.find_homing(options.homing)
    with tempfile.TemporaryDirectory(prefix="homing-bootstrap-") as folder:
        hosts = world.Hosts("abcd")
        address = dict(zip((*STABLE, DRAINED, CANARY), (hosts.address[name] for name in "abcd")))
        ports = {port: 0 for port in LISTENERS} | {port: int(a.rsplit(":", 1)[1]) for port, a in address.items()}
        path = os.path.join(folder, "bootstrap.yaml")
        write_copy(path, ports)
        proxies = []
        try:
            proxies.append(Envoy(folder, path, options.envoy))
            proxies.append(Homing(folder, path, options.runtime, binary))
            trial = Trial(*proxies, address)
            for part in (trial.own_answers, trial.cookies, trial.one_cluster, trial.strict, trial.drained,
                         trial.disabled, trial.upgrades, trial.paths, trial.weights):
                part()
            for proxy in proxies:
                trial.check(f"{proxy.name} is still there", proxy.is_alive(), proxy.log)
            trial.check("Homing ends well", proxies[1].stop() == 0, proxies[1].log)
        finally:
            for proxy in proxies:
                proxy.stop()
            hosts.stop()
    verdict = "FAIL" if trial.failures else "PASS"
    print(verdict, f"bootstrap on {options.runtime}: {trial.failures} of {trial.checks} checks failed")
    return 1 if trial.failures else 0


if __name__ == "__main__":
    world.guarded(main)
