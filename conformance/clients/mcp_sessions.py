#!/usr/bin/env python3
"""MCP sessions over SSE (protocol of 2024-11-05) must stay at the instance that opened them, through Homing.

    mcp_sessions.py PROGRAM [--runtime NAME] [--sessions N]

Starts two servers of MCP's own Python SDK and, before them, Homing with `sse: { parameter: session_id }`. Clients of the
SDK then open sessions side by side and call tools. A server knows its own sessions only, so that a call that went
elsewhere fails; that this would happen is checked first, with requests that carry the server's value without Homing's.

Prints one line, PASS or FAIL with the reason. Exit status: 0 pass, 1 fail, 2 when the test could not run.
Needs what conformance/install.sh installs.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

import requests

CALLS = 5
# For a person's sake only: a proxy that hangs fails the test instead of stopping it.
PATIENCE_SECONDS = 30


class Fail(Exception):
    """What was seen is not what a session is owed."""


def serve(name, descriptor):
    """An MCP server on a socket that listens already; its one tool says which instance answers."""
    import uvicorn
    from mcp.server.fastmcp import FastMCP
    from mcp.server.transport_security import TransportSecuritySettings

    # The SDK refuses hosts that it was not told of; here the client's `host` is Homing's.
    server = FastMCP(name, log_level="CRITICAL", transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))

    @server.tool()
    def whoami(number: int) -> str:
        return f"{name} {number}"

    config = uvicorn.Config(server.sse_app(), log_level="critical")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def start_server(name):
    """The process of a server and its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    descriptor = listener.fileno()
    process = subprocess.Popen([sys.executable, __file__, "--serve", name, str(descriptor)], pass_fds=[descriptor])
    port = listener.getsockname()[1]
    listener.close()
    return process, port


def start_homing(program, runtime, folder, ports):
    """The process of the proxy and its port."""
    file = os.path.join(folder, "mcp.yaml")
    hosts = json.dumps([f"127.0.0.1:{port}" for port in ports])
    with open(file, "w", encoding="utf-8") as out:
        out.write(
            "listeners:\n"
            "  - name: mcp\n"
            "    address: 127.0.0.1:0\n"
            "    statefulSession: { sse: { parameter: session_id }, strict: true }\n"
            "    routes: [{ forward: { cluster: mcp } }]\n"
            f"clusters: [{{ name: mcp, hosts: {hosts} }}]\n"
            "workers: 1\n"
        )
    process = subprocess.Popen([program, "run", "--runtime", runtime, file], stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stderr:
        said += line
        found = re.search(r"mcp on 127\.0\.0\.1:(\d+)", line)
        if found:
            return process, int(found.group(1))
    raise OSError(f"{program} did not start:\n{said}")


def wait_for_servers(ports):
    """A listener takes connections before its server does, so that asking is enough: the answer waits."""
    for port in ports:
        requests.get(f"http://127.0.0.1:{port}/none", timeout=PATIENCE_SECONDS)


def check_that_it_matters(base):
    """Without Homing's part, the session's requests take turns between a server that knows it and one that does not."""
    with requests.get(f"{base}/sse", stream=True, timeout=PATIENCE_SECONDS) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        url = next(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        own, dot, _ = url.rpartition(".")
        if not dot or "session_id=" not in own:
            raise Fail(f"the endpoint {url!r} carries no address")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        post = lambda target: requests.post(base + target, json=ping, timeout=PATIENCE_SECONDS).status_code
        bare, whole = sorted({post(own) for _ in range(4)}), sorted({post(url) for _ in range(4)})
    if bare != [202, 404]:
        raise Fail(f"without the address, both servers should be asked, but the answers are {bare}")
    if whole != [202]:
        raise Fail(f"with the address, the answers are {whole}")


async def session(base, number):
    """The instance that one session's calls are answered by."""
    from mcp import ClientSession
    from mcp.client.sse import sse_client

    async with sse_client(f"{base}/sse") as streams, ClientSession(*streams) as client:
        await client.initialize()
        homes = set()
        for call in range(CALLS):
            result = await client.call_tool("whoami", {"number": number * CALLS + call})
            home, _, echo = result.content[0].text.partition(" ")
            if echo != str(number * CALLS + call):
                raise Fail(f"session {number} got the answer {echo} of another call")
            homes.add(home)
    if len(homes) != 1:
        raise Fail(f"session {number} was at {sorted(homes)}")
    return homes.pop()


async def all_sessions(base, count):
    async with asyncio.timeout(PATIENCE_SECONDS):
        homes = await asyncio.gather(*(session(base, number) for number in range(count)))
    if len(set(homes)) < 2:
        raise Fail(f"all sessions are at {homes[0]!r}; they should be spread")


def main():
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="Homing")
    parser.add_argument("--runtime", default="auto", metavar="NAME")
    parser.add_argument("--sessions", type=int, default=8, metavar="N")
    options = parser.parse_args()
    children = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            servers = [start_server(name) for name in ("one", "two")]
            children = [process for process, _ in servers]
            ports = [port for _, port in servers]
            homing, port = start_homing(options.program, options.runtime, folder, ports)
            children.append(homing)
            wait_for_servers(ports)
            base = f"http://127.0.0.1:{port}"
            check_that_it_matters(base)
            asyncio.run(all_sessions(base, options.sessions))
    except (OSError, requests.RequestException, ImportError) as error:
        print(f"mcp_sessions.py: {error}", file=sys.stderr)
        return 2
    except Exception as failure:  # what the SDK raises comes in groups
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        print(f"FAIL mcp: {failure or type(failure).__name__}")
        return 1
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()
    print(f"PASS mcp: {options.sessions} sessions of {CALLS} calls on {options.runtime}, each at one instance")
    return 0


if __name__ == "__main__":
    sys.exit(main())
