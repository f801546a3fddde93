#!/usr/bin/env python3
"""WebSockets opened with the session of an earlier request must come to that request's instance.

    websocket.py PORT [--connections N] [--cookie NAME | --header NAME | --direct]

Asks http://127.0.0.1:PORT/headers once, keeps the session token the answer carries (in a cookie, or in the named
header), and opens WebSockets to /ws with it, one after the other. Each echoes five messages, which the demo upstream
answers with "<instance>: <text>". --direct is for an upstream without a proxy before it, where there is no token.

Prints one line, PASS or FAIL with the reason. Exit status: 0 pass, 1 fail, 2 when the test could not run.
Needs what conformance/install.sh installs.
"""

import argparse
import sys

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

MESSAGES = 5
# For a person's sake only: a proxy that hangs fails the test instead of stopping it.
PATIENCE_SECONDS = 20


class Fail(Exception):
    """What was seen is not what a session is owed."""


def begin(port, options):
    """The session's home, and the header that leads back to it."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"http://127.0.0.1:{port}/headers", timeout=PATIENCE_SECONDS)
    if answer.status_code != 200:
        raise Fail(f"GET /headers is answered {answer.status_code}: {answer.text.strip()!r}")
    home = answer.json()["instance"]
    if options.direct:
        return home, {}
    if options.header:
        if options.header not in answer.headers:
            raise Fail(f"the first answer has no {options.header} header")
        return home, {options.header: answer.headers[options.header]}
    value = answer.cookies.get(options.cookie)
    if value is None:
        raise Fail(f"the first answer sets no cookie {options.cookie}")
    return home, {"Cookie": f"{options.cookie}={value}"}


def converse(port, home, token, number):
    with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=token, proxy=None,
                 open_timeout=PATIENCE_SECONDS) as socket:
        for message in range(1, MESSAGES + 1):
            text = f"connection {number}, message {message}"
            socket.send(text)
            echo = socket.recv(timeout=PATIENCE_SECONDS)
            if echo != f"{home}: {text}":
                raise Fail(f"the session's home is {home!r}, but {text!r} was answered {echo!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int, help="of the proxy, on 127.0.0.1")
    parser.add_argument("--connections", type=int, default=3, metavar="N")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cookie", default="statefulsessioncookie", metavar="NAME")
    where.add_argument("--header", metavar="NAME")
    where.add_argument("--direct", action="store_true", help="no proxy: expect no token")
    options = parser.parse_args()
    try:
        home, token = begin(options.port, options)
        for number in range(1, options.connections + 1):
            converse(options.port, home, token, number)
    except requests.RequestException as error:
        print(f"websocket.py: no answer from 127.0.0.1:{options.port}: {error}", file=sys.stderr)
        return 2
    except (Fail, WebSocketException, OSError) as failure:
        print(f"FAIL websocket: {failure or type(failure).__name__}")
        return 1
    print(f"PASS websocket: {options.connections} connections of {MESSAGES} messages, all at instance {home!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
