#!/usr/bin/env python3
"""The HTTP matrix through Homing, nginx and HAProxy, each in front of an upstream that records what it gets.

    peers.py [--homing PROGRAM] [--only TEXT] [--all] [--update]

Sends every case of cases.jsonl to the three, prints those on which they differ (with --all: every case), and holds them
against DISAGREEMENTS.md, where each difference stands under its reason. A difference that is not listed there, or that
is not one any more, is a failure; so is a case that Homing does not treat as its verdict says. --only limits
the cases to those whose name has TEXT in it. --update writes the cells of DISAGREEMENTS.md anew; what is new goes under
"Unexplained", which the check does not accept, to be moved under a reason by hand.

nginx and HAProxy are Debian's, which conformance/install.sh installs; their configurations are below, and but for short
time-outs hold what their manuals recommend for a reverse proxy. Python 3.10 and no packages. Loopback only. Exit status:
0 as listed, 1 not so, 2 when the comparison could not run.
"""

import argparse
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEDGER = HERE / "DISAGREEMENTS.md"
LANES = 12
# The columns of DISAGREEMENTS.md.
COLUMNS = ("homing", "nginx", "haproxy")
# How often a peer is asked again about a case.
RETRIES = 5
# Longer than any time-out of the configurations below.
PATIENCE_SECONDS = 10
CANARY = b"GET /canary HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
# A case without a canary can leave a request on its way to the upstream: one that comes after this belongs to the next.
FENCE = b"GET /fence HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
CANARY_ANSWER = b"HTTP/1.1 200 OK\r\nX-Up: canary\r\nContent-Length: 6\r\n\r\ncanary"
ANSWER_HEAD = b"HTTP/1.1 200 OK\r\nX-Up: 1\r\nContent-Length: 2\r\n\r\n"

HOMING = """\
workers: 1
listeners:
{listeners}
clusters:
{clusters}
"""

NGINX = """\
{user}
daemon off;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 2s;
    lingering_timeout 1s;
    proxy_read_timeout 1s;
    proxy_connect_timeout 1s;
    proxy_http_version 1.1;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
{servers}
}}
"""

HAPROXY = """\
global
    nbthread 1
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
    timeout tunnel 1s
{servers}
"""


def octets(text):
    """The bytes of a text in which one character is one byte, and runs are counted."""
    if isinstance(text, dict):
        text = "".join(part * times for part, times in text["runs"])
    return text.encode("latin-1")


class Case:
    def __init__(self, line):
        self.name = line["name"]
        self.verdict = line["verdict"]
        self.canary = line.get("canary", True)
        self.send = octets(line["send"]) + (CANARY if self.canary else b"")
        self.seen = [octets(text).decode("latin-1") for text in line.get("seen", [])]
        self.methods = line.get("methods", [])
        self.upstream = octets(line["upstream"]) if "upstream" in line else None
        self.upstream_closes = line.get("upstream_closes", False)


class Request:
    """A whole request as the upstream got it."""

    def __init__(self, method, target, body):
        self.method, self.target, self.body = method, target, body
        self.is_canary = (method, target) == ("GET", "/canary")

    def __str__(self):
        return f"{self.method} {self.target}" + (f" {self.body.decode('latin-1')}" if self.body else "")


class Stage:
    """What the upstream of a lane plays at the moment, and what it got."""

    def __init__(self, case):
        self.case, self.requests, self.broken = case, [], []


def split_head(data):
    """The lines of a head, and the bytes behind it; None while it is not whole. Lines may end in LF: what a proxy
    passes on is judged by its verdict, not here."""
    end = re.search(rb"\r?\n\r?\n", data)
    if not end:
        return None
    return re.split(r"\r?\n", data[: end.start()].decode("latin-1")), data[end.end() :]


def field(lines, name):
    values = [line.partition(":")[2].strip() for line in lines[1:] if line.partition(":")[0].strip().lower() == name]
    return ", ".join(values) if values else None


def take_chunks(data):
    """The body and the rest; None while it is not whole."""
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        if len(data) < size + 2:
            return None
        if data[size : size + 2] != b"\r\n":
            raise ValueError("chunk without its end")
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return body, data


def take_body(lines, data, until_close):
    """The body and the rest; None while it is not whole."""
    coding, length = field(lines, "transfer-encoding"), field(lines, "content-length")
    if coding is not None:
        return take_chunks(data) if "chunked" in coding.lower() else (data, b"")
    if length is not None:
        length = int(length)
        return (data[:length], data[length:]) if len(data) >= length else None
    return (data, b"") if until_close else (b"", data)


def take_request(data):
    head = split_head(data)
    if head is None:
        return None
    lines, rest = head
    words = lines[0].split(" ")
    if len(words) < 2:
        raise ValueError(f"request line {lines[0]!r}")
    body = take_body(lines, rest, until_close=False)
    if body is None:
        return None
    return Request(words[0], words[1], body[0]), body[1]


class Upstream:
    """A server on a port of its own that plays the current case of its lane."""

    def __init__(self):
        self.stage = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            # What comes on a new connection belongs to the case that ran when it was accepted.
            threading.Thread(target=self.serve, args=(connection, self.stage), daemon=True).start()

    def serve(self, connection, stage):
        try:
            with connection:
                self.play(connection, stage)
        except OSError:
            pass

    def play(self, connection, stage):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inbox, served = b"", False
        while True:
            try:
                taken = take_request(inbox)
            except ValueError as error:
                stage.broken.append(str(error))
                return
            if taken is None:
                more = connection.recv(65536)
                if not more:
                    return
                stage = stage if inbox or not served else self.stage
                inbox += more
                continue
            served = True
            request, inbox = taken
            if request.target == "/fence":
                connection.sendall(CANARY_ANSWER)
                continue
            answer = self.answer(stage.case, request)
            stage.requests.append(request)
            connection.sendall(answer)
            if stage.case.upstream_closes and not request.is_canary:
                return
            if re.search(rb"HTTP/1\.\d 101 ", answer):
                return self.echo(connection, inbox)

    @staticmethod
    def answer(case, request):
        if request.is_canary:
            return CANARY_ANSWER
        if case.upstream is not None:
            return case.upstream
        return ANSWER_HEAD + (b"" if request.method == "HEAD" else b"ok")

    @staticmethod
    def echo(connection, seen):
        connection.sendall(seen)
        while not seen.endswith(CANARY):
            more = connection.recv(65536)
            if not more:
                return
            connection.sendall(more)
            seen += more


def ask(sent, ends, port):
    """What came back, and how it ended: close, reset or hang. With `ends` the client closes its side."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.sendall(sent)
            if ends:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            # A refusal may come before everything is sent.
            pass
        while True:
            try:
                more = client.recv(65536)
            except TimeoutError:
                return received, "hang"
            except OSError:
                return received, "reset"
            if not more:
                return received, "close"
            received += more


def verdict(case, received, end, stage):
    """The steps that a client and the upstream saw, in the words of cases.jsonl."""
    steps, finals, forwarded, canary = [], 0, 0, False
    requests = sum(not request.is_canary for request in stage.requests)
    rest = received
    while rest:
        head = split_head(rest)
        start = head and re.match(r"HTTP/1\.\d (\d{3})(?!\d)", head[0][0])
        if not start:
            steps.append("garbage" if head or not rest.startswith(b"HTTP/1.") else "cut")
            break
        lines, status, mark = head[0], int(start[1]), field(head[0], "x-up")
        to_head = finals < len(case.methods) and case.methods[finals] == "HEAD"
        stated = field(lines, "content-length") is not None or field(lines, "transfer-encoding") is not None
        try:
            bodiless = to_head or status < 200 or status in (204, 304)
            body = (b"", head[1]) if bodiless else take_body(lines, head[1], until_close=True)
        except ValueError:
            steps.append("broken body")
            break
        if body is None:
            steps.append("cut")
            break
        rest = body[1]
        if status < 200 and status != 101:
            steps.append(f"interim {status}")
            continue
        finals += 1
        if mark == "canary":
            canary = True
            if rest:
                steps.append("bytes behind the canary")
            break
        if mark == "1" and status == 101:
            steps.append("tunnelled" if rest == CANARY else "tunnelled otherwise")
            break
        if mark == "1":
            forwarded += 1
            cut = not rest and end == "reset" and not stated and not bodiless
            steps.append("cut" if cut else "forwarded" if status == 200 else f"forwarded {status}")
        elif mark is not None:
            steps.append("smuggled")
        elif status in (502, 504) and requests > forwarded:
            forwarded += 1
            steps.append(f"replaced {status}")
        else:
            steps.append(f"answered {status}" if rest else f"refused {status}")
    settled = steps and steps[-1].split(" ")[0] in ("refused", "cut", "tunnelled", "garbage")
    if end == "hang":
        steps.append("hangs")
    elif not steps and not canary:
        steps.append("cut" if end == "reset" and case.canary else "dropped")
    elif not settled and not canary:
        steps.append("closed")
    seen = [str(request) for request in stage.requests if not request.is_canary]
    told = ", ".join(steps)
    if stage.broken:
        told += "; the host sees a broken request"
    elif told == case.verdict and seen != case.seen:
        other = next((one for one, should in zip(seen, case.seen) if one != should), f"{len(seen)} requests")
        other = other if len(other) < 60 else other[:57] + "..."
        told += "; the host sees " + json.dumps(other)[1:-1].replace("|", "\\|")
    return told


class Proxy:
    """One program in front of its lanes."""

    def __init__(self, name, program, home):
        self.name, self.program = name, program
        self.home = home / name
        self.home.mkdir()
        self.lanes = [Upstream() for _ in range(LANES)]
        # The kernel names free ports; until the program has them, nobody else is likely to be given the same ones.
        with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in self.lanes]
        self.ports = [listener.getsockname()[1] for listener in with_ports]
        for listener in with_ports:
            listener.close()
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=(self.home / "out").open("wb"), stderr=subprocess.STDOUT
        )
        self.await_ports()

    def command(self):
        pairs = list(zip(self.ports, self.lanes))
        if self.name == "homing":
            listeners = "\n".join(
                f'- {{ name: l{port}, address: "127.0.0.1:{port}", routes: [{{ forward: {{ cluster: c{port} }} }}] }}'
                for port, _ in pairs
            )
            clusters = "\n".join(f'- {{ name: c{port}, hosts: ["127.0.0.1:{lane.port}"] }}' for port, lane in pairs)
            return [self.program, "run", self.write(HOMING.format(listeners=listeners, clusters=clusters), "yaml")]
        if self.name == "nginx":
            servers = "\n".join(
                f"    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{lane.port}; }} }}"
                for port, lane in pairs
            )
            user = "user root;" if os.geteuid() == 0 else ""
            text = NGINX.format(user=user, home=self.home, servers=servers)
            return [self.program, "-p", self.home, "-c", self.write(text, "conf")]
        servers = "\n".join(
            f"listen l{port}\n    bind 127.0.0.1:{port}\n    server s 127.0.0.1:{lane.port}" for port, lane in pairs
        )
        return [self.program, "-db", "-f", self.write(HAPROXY.format(servers=servers), "conf")]

    def write(self, text, suffix):
        path = self.home / f"config.{suffix}"
        path.write_text(text)
        return path

    def await_ports(self):
        give_up = time.monotonic() + PATIENCE_SECONDS
        for port in self.ports:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if self.process.poll() is not None or time.monotonic() > give_up:
                        text = (self.home / "out").read_text(errors="replace")
                        self.end()
                        sys.exit(f"peers.py: {self.name} does not listen:\n{text}")
                    time.sleep(0.02)

    def run(self, cases):
        """The verdict on each case, by name."""
        work, verdicts = queue.SimpleQueue(), {}
        for case in cases:
            work.put(case)

        def lane_runs(port, lane):
            while True:
                try:
                    case = work.get_nowait()
                except queue.Empty:
                    return
                lane.stage = stage = Stage(case)
                received, end = ask(case.send, not case.canary, port)
                if not case.canary:
                    ask(FENCE, False, port)
                verdicts[case.name] = verdict(case, received, end, stage)

        threads = [threading.Thread(target=lane_runs, args=pair) for pair in zip(self.ports, self.lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return verdicts

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


ROW = re.compile(r"^\| ([a-z]+/\S+) \| (.*?) \| (.*?) \| (.*?) \|$")


def row(cells):
    """The cells of a row; "=": as Homing."""
    own, *others = cells
    return (own, *("=" if cell == own else cell for cell in others))


def line_of(name, cells):
    return f"| {name} | {' | '.join(cells)} |"


def fits(known, found):
    """Whether the row says what was found. A cell may name two outcomes: "A or B", where timing decides."""
    return known is not None and all(cell in told.split(" or ") for told, cell in zip(known, found))


def listed(text):
    """The rows of DISAGREEMENTS.md by case, and those under the heading of the unexplained."""
    rows, unexplained, heading = {}, [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line
        found = ROW.match(line)
        if found:
            rows[found[1]] = found.groups()[1:]
            if "Unexplained" in heading:
                unexplained.append(found[1])
    return rows, unexplained


def update(text, rows):
    """Writes the rows anew that do not fit, and adds those that are missing under the heading of the unexplained."""
    lines, known = [], set()
    for line in text.splitlines():
        found = ROW.match(line)
        if not found or fits(found.groups()[1:], rows[found[1]]):
            lines.append(line)
        elif differ(rows[found[1]]):
            lines.append(line_of(found[1], rows[found[1]]))
        known |= {found[1]} if found else set()
    fresh = [line_of(name, cells) for name, cells in rows.items() if differ(cells) and name not in known]
    if fresh:
        lines += ["", "## Unexplained", "", "| case | Homing | nginx | HAProxy |", "|---|---|---|---|", *fresh]
    LEDGER.write_text("\n".join(lines) + "\n")


def differ(cells):
    return any(cell != "=" for cell in cells[1:])


def find_homing():
    found = [ROOT / "target" / profile / "homing" for profile in ("release", "debug")]
    found = [path for path in found if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homing", type=Path, default=find_homing())
    parser.add_argument("--only", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    programs = {"homing": options.homing, **{name: shutil.which(name, path=path) for name in COLUMNS[1:]}}
    missing = [name for name, program in programs.items() if not program]
    if missing:
        print(f"peers.py: {', '.join(missing)} missing; cargo build -p homing, conformance/install.sh", file=sys.stderr)
        return 2
    cases = [Case(json.loads(line)) for line in (HERE / "cases.jsonl").read_text().splitlines()]
    cases = [case for case in cases if options.only in case.name]
    if options.update and options.only:
        print("peers.py: --update needs all cases", file=sys.stderr)
        return 2
    verdicts = {}
    with tempfile.TemporaryDirectory(prefix="homing-matrix-") as home:
        for name, program in programs.items():
            proxy = Proxy(name, program, Path(home))
            try:
                verdicts[name] = proxy.run(cases)
                if name != "homing":
                    settle(proxy, COLUMNS.index(name), cases, verdicts)
            finally:
                proxy.end()
    return report(cases, verdicts, options)


def settle(proxy, column, cases, verdicts):
    """Asks a peer again where it did not do what DISAGREEMENTS.md says of it. What nginx and HAProxy do when a client
    ends early hangs on which event they see first; Homing gets no second chance."""
    known, _ = listed(LEDGER.read_text())
    for _ in range(RETRIES):
        off = [case for case in cases if not peer_fits(case, known, column, verdicts)]
        if not off:
            return
        verdicts[proxy.name] |= proxy.run(off)


def peer_fits(case, known, column, verdicts):
    told = row([verdicts["homing"][case.name], verdicts[COLUMNS[column]][case.name]])[1]
    return told in (known[case.name][column] if case.name in known else "=").split(" or ")


def report(cases, verdicts, options):
    rows = {case.name: row([verdicts[proxy][case.name] for proxy in COLUMNS]) for case in cases}
    print("| case | Homing | nginx | HAProxy |\n|---|---|---|---|")
    for name, cells in rows.items():
        if options.all or differ(cells):
            print(line_of(name, cells))
    text = LEDGER.read_text()
    if options.update:
        update(text, rows)
        text = LEDGER.read_text()
    known, unexplained = listed(text)
    faults = [
        f"Homing: {case.name}: {rows[case.name][0]}, and not {case.verdict}"
        for case in cases
        if rows[case.name][0] != case.verdict
    ]
    for name, cells in rows.items():
        if name in known and not fits(known[name], cells):
            faults.append(f"DISAGREEMENTS.md is out of date: {line_of(name, known[name])} found {line_of(name, cells)}")
        elif name not in known and differ(cells):
            faults.append(f"DISAGREEMENTS.md has no row {line_of(name, cells)}")
    faults += [f"DISAGREEMENTS.md does not explain {name}" for name in unexplained if name in rows]
    if not options.only:
        faults += [f"DISAGREEMENTS.md: there is no case {name}" for name in known if name not in rows]
    print(f"{len(cases)} cases; {sum(map(differ, rows.values()))} on which the three differ")
    for fault in faults:
        print(fault, file=sys.stderr)
    print("FAIL" if faults else "PASS")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
