#!/usr/bin/env python3
"""A real browser reloads a page and must stay at one instance.

    browser.py PORT [--reloads N] [--cookie NAME | --direct]

Starts a headless Chromium with a fresh profile, opens http://127.0.0.1:PORT/ (the page of the demo upstream),
reloads it, and compares the element #instance and the count #visits. The session cookie must be in the browser's jar
and must not change; --direct is for an upstream without a proxy before it, where there is none. At the end the page's
own WebSocket form must be answered by the same instance.

Prints one line, PASS or FAIL with the reason. Exit status: 0 pass, 1 fail, 2 when the test could not run.
Needs what conformance/install.sh installs; CHROMIUM names another browser.
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from websockets.sync.client import connect

# For a person's sake only: a browser that hangs fails the test instead of stopping it.
PATIENCE_SECONDS = 60


class Fail(Exception):
    """What was seen is not what a session is owed."""


class Page:
    """One tab, spoken to in the DevTools protocol."""

    def __init__(self, url):
        self.socket = connect(url, proxy=None, max_size=None, open_timeout=PATIENCE_SECONDS)
        self.ids = itertools.count(1)
        self.events = []

    def receive(self):
        return json.loads(self.socket.recv(timeout=PATIENCE_SECONDS))

    def call(self, method, **params):
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = self.receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message.get("method"))

    def load(self, method, **params):
        """Calls something that loads a page, and waits until it is loaded."""
        self.events.clear()
        result = self.call(method, **params)
        if result.get("errorText"):
            raise Fail(f"the page does not load: {result['errorText']}")
        while "Page.loadEventFired" not in self.events:
            self.events.append(self.receive().get("method"))

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise Fail(f"in the page: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self, element):
        text = self.evaluate(f"document.getElementById({element!r})?.textContent ?? null")
        if text is None:
            raise Fail(f"the page has no element #{element}; it says {self.evaluate('document.body.innerText')!r}")
        return text


def start_browser(profile):
    """The browser and the address of its tab. It writes the port it chose into its profile."""
    command = [os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--disable-gpu",
               "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
               "--no-first-run", "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={profile}",
               "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = pathlib.Path(profile, "DevToolsActivePort")
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The file appears empty first: it is whole when its second line is there.
    while not told.exists() or len(told.read_text().splitlines()) < 2:
        if browser.poll() is not None or time.monotonic() > deadline:
            browser.kill()
            raise RuntimeError(f"the browser does not start (exit status {browser.wait()})")
        time.sleep(0.02)
    port, path = told.read_text().splitlines()[:2]
    return browser, f"ws://127.0.0.1:{port}{path}"


def open_page(url):
    """A tab's own address follows from the browser's and the tab's id."""
    browser = Page(url)
    tab = browser.call("Target.createTarget", url="about:blank")["targetId"]
    page = Page(url.split("/devtools/")[0] + f"/devtools/page/{tab}")
    page.call("Page.enable")
    page.call("Network.enable")
    return page


def session_cookie(page, url, name):
    found = [c["value"] for c in page.call("Network.getCookies", urls=[url])["cookies"] if c["name"] == name]
    if len(found) != 1:
        raise Fail(f"the browser has {len(found)} cookies called {name}, not one")
    return found[0]


def check(page, url, options):
    page.load("Page.navigate", url=url)
    instance, visits = page.text("instance"), int(page.text("visits"))
    cookie = None if options.direct else session_cookie(page, url, options.cookie)
    for reload in range(1, options.reloads + 1):
        page.load("Page.reload", ignoreCache=True)
        now, count = page.text("instance"), int(page.text("visits"))
        if now != instance:
            raise Fail(f"reload {reload} came to instance {now!r}, the session's home is {instance!r}")
        if count <= visits:
            raise Fail(f"reload {reload} shows visit {count} after {visits}: {instance!r} has lost its memory")
        visits = count
        if cookie is not None and session_cookie(page, url, options.cookie) != cookie:
            raise Fail(f"reload {reload} changed the cookie {options.cookie}")
    echo = page.evaluate("""new Promise(resolve => {
        const echo = document.getElementById("echo");
        new MutationObserver(() => resolve(echo.textContent)).observe(echo, { childList: true });
        document.getElementById("talk").requestSubmit();
    })""")
    if echo != f"{instance}: hello":
        raise Fail(f"the WebSocket of the page answered {echo!r}, not {instance + ': hello'!r}")
    return f"one page load, {options.reloads} reloads and a WebSocket, all at instance {instance!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int, help="of the proxy, on 127.0.0.1")
    parser.add_argument("--reloads", type=int, default=4, metavar="N")
    parser.add_argument("--cookie", default="statefulsessioncookie", metavar="NAME")
    parser.add_argument("--direct", action="store_true", help="no proxy: expect no session cookie")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homing-browser-", ignore_cleanup_errors=True) as profile:
        try:
            browser, url = start_browser(profile)
        except (OSError, RuntimeError) as error:
            print(f"browser.py: {error}; see conformance/install.sh", file=sys.stderr)
            return 2
        try:
            seen = check(open_page(url), f"http://127.0.0.1:{options.port}/", options)
        except (Fail, TimeoutError) as failure:
            print(f"FAIL browser: {failure or 'the browser does not answer'}")
            return 1
        finally:
            browser.terminate()
            try:
                browser.wait(timeout=10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
    print(f"PASS browser: {seen}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
