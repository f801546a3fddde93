"""Homing, started as its users start it: from options alone, or from a file where options do not say enough."""

import json
import os

from riglib import fleet
from riglib.contender import RigError

RUNTIMES = ("monoio", "tokio", "mio")
VARIANTS = {}
for _runtime in RUNTIMES:
    _what = f"Homing on {_runtime}"
    VARIANTS[_runtime] = f"{_what}, 1 worker, cookie"
    VARIANTS[f"{_runtime}+log"] = f"{_what}, with a line of JSON in a file for each request"
    VARIANTS[f"{_runtime}+workers=2"] = f"{_what}, with 2 workers"
    VARIANTS |= {f"{_runtime}+{extra}": described for extra, described in fleet.variants(_what).items()}
TOKEN = "cookie"


def command(setup):
    if not os.path.exists(setup.options.bin):
        raise RigError(f"{setup.options.bin} is not there; run `cargo build --release`, or give --bin PATH")
    run = [os.path.abspath(setup.options.bin), "run"]
    runtime, _, extra = setup.variant.partition("+")
    if extra == "log" or fleet.size_of(extra):
        return [*run, setup.write("homing.yaml", configuration(setup, runtime))]
    run += ["--listen", f"127.0.0.1:{setup.port}"]
    for port in setup.upstreams:
        run += ["--upstream", f"127.0.0.1:{port}"]
    workers = extra.partition("workers=")[2] or "1"
    return [*run, "--cookie", "SRV", "--ttl", "1h", "--workers", workers, "--runtime", runtime]


def configuration(setup, runtime):
    """What the options say, with a log or with many hosts. Draining hosts keep their sessions and get no new ones."""
    size = fleet.size_of(setup.variant) or len(setup.upstreams)
    hosts = "\n".join(
        f'      - "{address}"' if used else f'      - {{ address: "{address}", admission: draining }}'
        for address, used in fleet.hosts(setup.upstreams, size)
    )
    log = f"accessLog: {{ to: {json.dumps(log_path(setup))}, format: json }}" if logs(setup) else ""
    return f"""
listeners:
  - name: proxy
    address: "127.0.0.1:{setup.port}"
    statefulSession:
      cookieBased: {{ cookie: {{ name: SRV, ttl: 1h }} }}
    routes:
      - forward: {{ cluster: backend }}
clusters:
  - name: backend
    hosts:
{hosts}
workers: 1
runtime: {runtime}
{log}
"""


def logs(setup):
    return setup.variant.endswith("+log")


def log_path(setup):
    return os.path.abspath(setup.path("access.log"))


def harvest_log(setup):
    """The lines logged since the last harvest, and the requests that Homing says it could not log. None: no log.

    Empties the file, which Homing appends to, so that a long measurement does not fill the disk.
    """
    if not logs(setup):
        return None
    lines = lost = 0
    with open(log_path(setup), "rb+") as file:
        for line in file:
            if line.startswith(b'{"dropped":'):
                lost += json.loads(line)["dropped"]
            elif line.endswith(b"}\n"):
                lines += 1
        file.truncate(0)
    return lines, lost
