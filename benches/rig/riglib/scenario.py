"""What is asked of a proxy: the scenarios, and the bytes of their requests."""

from dataclasses import dataclass

SMALL_BODY = 64  # bytes of the backend's answer to GET /


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `load` are arguments of the load generator."""

    what: str
    load: tuple = ("--connections", "64")
    path: str = "/"
    body: int = SMALL_BODY  # every response must have this Content-Length
    token: bool = True  # requests carry the session token of their upstream
    browser: bool = False  # requests carry what a browser sends
    idle: bool = False  # measures memory instead of CPU


def _body(what, size, connections):
    return Scenario(f"sticky hit, {what} body", ("--connections", str(connections)), f"/b/{size}", size)


SCENARIOS = {
    "S1": Scenario("sticky hit, small response"),
    "S2": Scenario("new session: no token, one is issued", token=False),
    "S3": Scenario("sticky hit, browser headers", browser=True),
    "S4_1k": _body("1 KiB", 1024, 32),
    "S4_64k": _body("64 KiB", 65536, 32),
    "S4_1m": _body("1 MiB", 1048576, 16),
    "S5": Scenario("constant 5,000 requests/s", ("--connections", "64", "--rate", "5000")),
    "S6": Scenario("a connection per request", ("--connections", "32", "--churn")),
    "S7": Scenario("memory of idle keep-alive connections", idle=True),
    "S8": Scenario("constant 20,000 requests/s", ("--connections", "64", "--rate", "20000")),
}

# A group stands for its members on the command line.
GROUPS = {"S4": ("S4_1k", "S4_64k", "S4_1m")}

# What a desktop browser sends on a navigation; with the cookies about 900 bytes. The session cookie travels
# between others, as it does in the field.
BROWSER_FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en-US;q=0.7,en;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.com/garden/tools?sort=price&page=2&colour=green",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Sec-GPC": "1",
    "Priority": "u=0, i",
}
COOKIES_BEFORE = "consent=2026-03-01.analytics-no.ads-no; visitor=7f3c1a9e5b284d60a1d2c3b4e5f60718"
COOKIES_AFTER = "locale=en-GB; csrf=PqX3v7mK9tZ2sW8yB4nL6rD1; basket=4c2e9a70-51b8-4f6d-9e3a-0b7d8c1f2a35"


def expand(names):
    """The scenario names in a comma-separated list, groups resolved."""
    expanded = []
    for name in names.split(","):
        expanded += GROUPS.get(name, (name,))
    for name in expanded:
        if name not in SCENARIOS:
            known = ", ".join([*SCENARIOS, *GROUPS])
            raise SystemExit(f"rig: no scenario {name!r}; there are {known}")
    return expanded


def request_bytes(path="/", token=None, browser=False):
    """One GET request. `token` is a mapping of header names to values, as a contender learnt it."""
    fields = {"Host": "localhost"} | (BROWSER_FIELDS if browser else {}) | (token or {})
    if browser:
        cookies = (COOKIES_BEFORE, (token or {}).get("Cookie"), COOKIES_AFTER)
        fields["Cookie"] = "; ".join(filter(None, cookies))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
