"""Homing, started as its users start it."""

import os

RUNTIMES = ("monoio", "tokio", "mio")
VARIANTS = {runtime: f"Homing on {runtime}, 1 worker, cookie" for runtime in RUNTIMES}
TOKEN = "cookie"


def command(setup):
    from riglib.contender import RigError

    if not os.path.exists(setup.options.bin):
        raise RigError(f"{setup.options.bin} is not there; run `cargo build --release`, or give --bin PATH")
    argv = [os.path.abspath(setup.options.bin), "run", "--listen", f"127.0.0.1:{setup.port}"]
    for port in setup.upstreams:
        argv += ["--upstream", f"127.0.0.1:{port}"]
    return argv + ["--cookie", "SRV", "--ttl", "1h", "--workers", "1", "--runtime", setup.variant]
