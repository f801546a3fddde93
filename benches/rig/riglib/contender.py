"""One proxy: how it is started, what its tokens are, how it is stopped."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time

from . import system
from .scenario import request_bytes

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
CONTENDERS = os.path.join(HERE, "contenders")

START_SECONDS = 15
START_TRIES = 3  # a free port may be taken between asking for it and listening on it
TOKEN_REQUESTS_MAX = 60
TOKEN_CHECKS = 4


class RigError(Exception):
    """Something that the person who runs the rig can put right."""


class Setup:
    """What a contender's description may use: its ports, files and programs."""

    def __init__(self, name, upstreams, directory, options):
        self.name, _, self.variant = name.partition("@")
        self.upstreams = upstreams
        self.directory = directory
        self.options = options
        self.port = None
        os.makedirs(directory, exist_ok=True)

    def path(self, name):
        """A path in the contender's own directory."""
        return os.path.join(self.directory, name)

    def write(self, name, content):
        """Writes a file into the contender's own directory."""
        mode = "wb" if isinstance(content, bytes) else "w"
        with open(self.path(name), mode) as file:
            file.write(content)
        return self.path(name)

    def built(self, name):
        """A program that build.sh made."""
        path = os.path.join(HERE, "bin", name)
        if not os.path.exists(path):
            raise RigError(f"{name} is not built; run benches/rig/build.sh")
        return path

    def installed(self, name):
        """A program that install.sh or the system brought."""
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
        if not path:
            raise RigError(f"{name} is not installed; run benches/rig/install.sh")
        return path


def describe(name):
    """The module in contenders/ that describes a proxy."""
    stem = name.partition("@")[0]
    path = os.path.join(CONTENDERS, stem + ".py")
    if not os.path.exists(path):
        raise RigError(f"no contender {stem!r}; `rig list` shows them")
    spec = importlib.util.spec_from_file_location(f"contenders.{stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names():
    """All contenders, variants included, with their descriptions."""
    for file in sorted(os.listdir(CONTENDERS)):
        if file.endswith(".py"):
            module = describe(file[:-3])
            variants = module.VARIANTS if hasattr(module, "VARIANTS") else {"": module.DESCRIPTION}
            for variant, what in variants.items():
                yield file[:-3] + (f"@{variant}" if variant else ""), what


def fetch(port, request):
    """Sends one request on its own connection; the response's status and fields."""
    with socket.create_connection(("127.0.0.1", port), 3) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("closed before the end of the response head")
            received += more
    status, *lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    fields = [line.partition(":") for line in lines]
    return int(status.split()[1]), [(name.strip().lower(), value.strip()) for name, _, value in fields]


class Contender:
    """A proxy between start() and stop()."""

    def __init__(self, name, upstreams, work, options):
        self.name = name
        self.module = describe(name)
        variants = getattr(self.module, "VARIANTS", None)
        stem, _, variant = name.partition("@")
        if variant not in (variants or {"": None}):
            raise RigError(f"no contender {name!r}; {stem} takes one of {', '.join(f'@{v}' for v in variants or {})}")
        self.setup = Setup(name, upstreams, os.path.join(work, name), options)
        self.process = None
        self.launched = None  # when its process was started, by the monotonic clock
        self.tokens = []  # (header fields, upstream that must answer)

    @property
    def sticky(self):
        """Whether it issues tokens. The forwarders and the direct line do not."""
        return self.module.TOKEN != "none"

    @property
    def port(self):
        return self.setup.port

    @property
    def log(self):
        """The file that holds its output."""
        return self.setup.path("log")

    def harvest_log(self):
        """What its access log holds since the last harvest: lines, and requests it says it lost. None: no such log."""
        harvest = getattr(self.module, "harvest_log", lambda _setup: None)
        return harvest(self.setup)

    def start(self):
        """Starts it, waits until it answers, and learns its tokens."""
        if getattr(self.module, "DIRECT", False):
            self.setup.port = self.setup.upstreams[0]
        else:
            for attempt in range(1, START_TRIES + 1):
                try:
                    self._start_once()
                    break
                except RigError:
                    exited = self.has_died()
                    self.stop()
                    if attempt == START_TRIES or not exited:
                        raise
        try:
            self._learn_tokens()
        except OSError as error:
            self.stop()
            raise RigError(f"{self.name}: a request of a first session failed: {error}") from error
        except BaseException:
            self.stop()
            raise

    def launch(self):
        """Starts its process, on a port of its own; does not wait until it answers."""
        self.setup.port = system.free_port()
        argv = self.module.command(self.setup)
        with open(self.log, "wb") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            self.launched = time.monotonic()
            self.process = system.spawn(argv, self.setup.options.proxy_cpu, cwd=self.setup.directory, **streams)

    def _start_once(self):
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RigError(f"{self.name} exited with {self.process.returncode}; see {self.log}")
            try:
                if fetch(self.port, request_bytes())[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RigError(f"{self.name} gave no 200 within {START_SECONDS} s; see {self.log}")

    def stop(self):
        if self.process:
            system.stop(self.process)
            self.process = None

    def has_died(self):
        return self.process is not None and self.process.poll() is not None

    def pids(self):
        return system.family(self.process.pid) if self.process else []

    def _learn_tokens(self):
        """Collects one token per upstream and proves that each leads back there."""
        if not self.sticky:
            self.tokens = [(None, "")]
            return
        learnt = {}
        for _ in range(TOKEN_REQUESTS_MAX):
            token, upstream = self._first_visit()
            if upstream not in learnt:
                self._prove(token, upstream)
                learnt[upstream] = token
            if len(learnt) == len(self.setup.upstreams):
                break
        else:
            raise RigError(f"{self.name}: {TOKEN_REQUESTS_MAX} new sessions reached only the upstreams {list(learnt)}")
        self.tokens = [(token, upstream) for upstream, token in sorted(learnt.items())]

    def _first_visit(self):
        status, fields = fetch(self.port, request_bytes())
        kind, _, header = self.module.TOKEN.partition(":")
        if kind == "cookie":
            cookies = [value.partition(";")[0] for name, value in fields if name == "set-cookie"]
            token = {"Cookie": "; ".join(cookies)} if cookies else None
        else:
            value = dict(fields).get(header.lower())
            token = {header: value} if value else None
        if not token:
            raise RigError(f"{self.name}: no token in its first response: {status} {fields}")
        return token, dict(fields).get("x-backend", "")

    def _prove(self, token, upstream):
        for _ in range(TOKEN_CHECKS):
            reached = dict(fetch(self.port, request_bytes(token=token))[1]).get("x-backend")
            if reached != upstream:
                raise RigError(f"{self.name}: the token {token} of upstream {upstream} led to {reached}")
