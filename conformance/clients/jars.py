#!/usr/bin/env python3
"""Cookie jars that people use keep their sessions: Python's requests, httpx and aiohttp, and Node's undici.

    .cache/venv/bin/python conformance/clients/jars.py [--runtimes monoio,mio,tokio] [--homing PROGRAM]

Each client, with a fresh jar, sends 20 requests to a listener with cookie sessions before two hosts: all must reach one host,
and the cookie be set once. The control is a listener without sessions before the same hosts: there the hosts must
alternate, request by request. undici has no jar of its own and uses tough-cookie's. Needs conformance/install.sh and a
release build. Exit status: 0 all passed, 1 not so, 2 it could not run.
"""

import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "soak"))

import hosts
from proxy import ROOT, Homing, arguments, find_homing, guarded

try:
    import aiohttp
    import httpx
    import requests
except ImportError as error:
    print(f"jars.py: {error}; run conformance/install.sh, and this with .cache/venv/bin/python", file=sys.stderr)
    sys.exit(2)

REQUESTS = 20
# For a person's sake only: a client that hangs fails.
PATIENCE_SECONDS = 30


def by_requests(url):
    with requests.Session() as client:
        client.trust_env = False
        answers = [client.get(url, timeout=PATIENCE_SECONDS) for _ in range(REQUESTS)]
    return [(answer.status_code, answer.headers["x-host"], "set-cookie" in answer.headers) for answer in answers]


def by_httpx(url):
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        answers = [client.get(url) for _ in range(REQUESTS)]
    return [(answer.status_code, answer.headers["x-host"], "set-cookie" in answer.headers) for answer in answers]


def by_aiohttp(url):
    async def run():
        # Its jar refuses cookies of bare IP addresses, unless told so.
        jar = aiohttp.CookieJar(unsafe=True)
        found = []
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as client:
            for _ in range(REQUESTS):
                async with client.get(url) as answer:
                    await answer.read()
                    found.append((answer.status, answer.headers["x-host"], "set-cookie" in answer.headers))
        return found

    return asyncio.run(run())


def by_undici(url):
    command = ["node", os.path.join(os.path.dirname(os.path.abspath(__file__)), "jar.mjs"), url, str(REQUESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
    return [tuple(each) for each in json.loads(done.stdout)]


CLIENTS = {
    f"requests {requests.__version__}": by_requests,
    f"httpx {httpx.__version__}": by_httpx,
    f"aiohttp {aiohttp.__version__}": by_aiohttp,
    "undici with tough-cookie": by_undici,
}


def complaint(sticky, control):
    """What is wrong with the answers, each (status, host, whether a cookie was set); None: nothing."""
    if any(status != 200 for status, _, _ in sticky + control):
        return "an answer is not 200"
    if len(sticky) != REQUESTS or len(control) != REQUESTS:
        return "an answer is missing"
    if len({host for _, host, _ in sticky}) != 1:
        return "the session has more than one host"
    if [is_set for _, _, is_set in sticky] != [True] + [False] * (REQUESTS - 1):
        return "the cookie is not set once, with the first answer"
    if any(is_set for _, _, is_set in control):
        return "there is a cookie without sessions"
    if any(one[1] == next[1] for one, next in zip(control, control[1:])):
        return "without sessions the hosts do not alternate, so that this test would show nothing"
    return None


def try_runtime(runtime, addresses, work, binary):
    cookie = {"cookieBased": {"cookie": {"name": "sid", "path": "/", "ttl": "60s"}}}
    routes = [{"forward": {"cluster": "app"}}]
    settings = {
        "listeners": [
            {"name": "sticky", "address": "127.0.0.1:0", "statefulSession": cookie, "routes": routes},
            {"name": "plain", "address": "127.0.0.1:0", "routes": [{"forward": {"cluster": "other"}}]},
        ],
        "clusters": [{"name": "app", "hosts": addresses}, {"name": "other", "hosts": addresses}],
    }
    homing, well = Homing(f"homing-{runtime}", settings, work, runtime, binary), True
    try:
        for name, client in CLIENTS.items():
            try:
                sticky, control = [
                    client(f"http://127.0.0.1:{homing.ports[which]}/get?id=jar&n=10") for which in ("sticky", "plain")
                ]
                wrong = complaint(sticky, control)
                if wrong:
                    wrong += f": {sticky}; control: {control}"
            except (OSError, httpx.HTTPError, aiohttp.ClientError, subprocess.TimeoutExpired) as error:
                wrong = f"{type(error).__name__}: {error}"
            well &= wrong is None
            print(f"{'FAIL' if wrong else 'PASS'} {runtime}: {name}: {wrong or 'one host, one cookie; the control alternates'}")
        return (homing.stop() == 0) & well
    finally:
        homing.kill()


def main():
    parser = arguments(__doc__)
    options = parser.parse_args()
    binary = find_homing(options.homing)
    if not os.path.isdir(os.path.join(ROOT, ".cache/node/node_modules/undici")):
        raise SystemExit("jars.py: undici is not installed; run conformance/install.sh")
    work, fleet = tempfile.mkdtemp(prefix="homing-jars-"), hosts.Fleet(multiprocessing.get_context("fork"), 2)
    try:
        fleet.wait()
        wells = [try_runtime(runtime, fleet.addresses(), work, binary) for runtime in options.runtimes.split(",")]
    finally:
        fleet.stop()
        shutil.rmtree(work, ignore_errors=True)
    return 0 if all(wells) else 1


if __name__ == "__main__":
    guarded(main)
