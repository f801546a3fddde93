"""Random requests. Case N of a seed is the same whatever the other cases are; only addresses and the clock are of the run.

Tokens come in kinds (`KINDS`), from good ones to rubbish; then the line that carries them is varied, and the target,
and what the host answers. No expiry is near the current second, which may pass between two proxies.
"""

import base64
import dataclasses
import json
import random
import time

from world import INHERIT, Cluster, Listener, Route, Session

ALLOWED = ("UNKNOWN", "HEALTHY", "DEGRADED", "DRAINING")


def settings(address):
    """Listeners and clusters of the run. Each listener has clusters of its own, so that their rotations are too."""
    listeners, clusters = [], []

    def cluster(name, hosts="abcde"):
        health = {"b": "HEALTHY", "d": "DRAINING", "e": "UNHEALTHY", "dead": "DRAINING"}
        # Half of the hosts take new sessions: below that, Envoy and Homing alike ignore health (panic).
        known = [(address[host], health.get(host, "UNKNOWN")) for host in (*hosts, "dead")]
        clusters.append(Cluster(name, tuple(known), ALLOWED))
        return ((name, 1),)

    def listener(name, session, *routes):
        routes = (*routes, Route("/", cluster(name)))
        listeners.append(Listener(name, session, routes))

    listener("bare", Session("cookie", "sess"))
    listener("root", Session("cookie", "sess", "/"))
    listener("life", Session("cookie", "sess", "/", life=60))
    listener("firm", Session("cookie", "sess", "/", life=3600, strict=True))
    listener("path", Session("cookie", "sid", "/app", life=60, attributes=(("Secure", ""), ("SameSite", "Lax"))))
    listener("slash", Session("cookie", "sid", "/app/", strict=True, gone=410))
    listener("header", Session("header", "x-session-id"))
    listener("header-firm", Session("header", "X-Session-Id", strict=True, gone=404))
    listener("envelope", Session("envelope", "x-env"))
    listener("envelope-firm", Session("envelope", "x-env", strict=True))
    for name, strict in (("weights", False), ("weights-firm", True)):
        both = (cluster(f"{name}-1", "abd")[0], (cluster(f"{name}-2", "cef")[0][0], 3))
        listeners.append(Listener(name, Session("cookie", "sess", "/", life=60, strict=strict), (Route("/", both),)))
    listener(
        "routes",
        Session("cookie", "sess", "/", life=60),
        Route("/app/off", cluster("routes-off"), None),
        Route("/app/own", cluster("routes-own"), Session("header", "x-session-id", strict=True, gone=421)),
        Route("/app/firm", cluster("routes-firm"), Session("cookie", "own", "/app", strict=True)),
        Route("/app", cluster("routes-app"), INHERIT),
    )
    return listeners, clusters


@dataclasses.dataclass
class Case:
    number: int
    kind: str
    listener: Listener
    method: bytes
    target: bytes
    fields: list  # (name, value)
    body: bytes
    behaviour: dict
    now: int
    is_chunked: bool = False

    def bytes(self):
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"host: t.example"]
        lines += [name + b": " + value for name, value in self.fields]
        lines.append(b"x-case: " + base64.b64encode(json.dumps(self.behaviour).encode()))
        body = self.body
        if self.is_chunked:
            lines.append(b"transfer-encoding: chunked")
            half = len(body) // 2
            pieces = [piece for piece in (body[:half], body[half:]) if piece]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif body:
            lines.append(b"content-length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def policy(self):
        return self.listener.policy(self.target.decode("latin-1"))

    def values(self, name):
        return [value for known, value in self.fields if known.lower() == name.lower().encode()]


# ---------------------------------------------------------------- tokens


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(address, expires=None):
    head = b"\x0a" + varint(len(address)) + address
    return head if expires is None else head + b"\x10" + varint(expires)


def unknown_field(rng):
    number, data = rng.randrange(1, 300), rng.randbytes(rng.randrange(12))
    tag = lambda wire: varint(number << 3 | wire)
    return rng.choice([
        lambda: tag(0) + varint(rng.getrandbits(rng.randrange(1, 65))),
        lambda: tag(1) + rng.randbytes(8),
        lambda: tag(2) + varint(len(data)) + data,
        lambda: tag(5) + rng.randbytes(4),
        lambda: tag(3) + b"\x78\x01" + tag(4),
        lambda: tag(3) + tag(4),
    ])()


def overlong(value, extra):
    digits = bytearray(varint(value))
    digits[-1] |= 0x80
    return bytes(digits) + b"\x80" * (extra - 1) + b"\x00"


def mutated_message(rng, address, expires):
    """A message that is nearly one: sometimes still good, mostly not."""
    whole, expiry = message(address, expires), b"\x10" + varint(expires)
    at = rng.randrange(len(whole))
    return rng.choice([
        lambda: whole[:at],
        lambda: whole[:at] + rng.randbytes(1) + whole[at + 1 :],
        lambda: whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :],
        lambda: whole[:at] + rng.randbytes(rng.randrange(1, 4)) + whole[at:],
        lambda: whole[:at] + whole[at + 1 :],
        lambda: unknown_field(rng) + whole,
        lambda: whole + unknown_field(rng),
        lambda: message(address) + unknown_field(rng) + expiry,
        lambda: expiry + message(address),
        lambda: message(b"10.9.9.9:9") + whole,
        lambda: whole + message(b""),
        lambda: whole + b"\x10" + varint(rng.choice([0, 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1])),
        lambda: whole + b"\x10" + b"\xff" * rng.choice([9, 10]) + b"\x01",
        lambda: b"\x0a" + overlong(len(address), rng.randrange(1, 5)) + address,
        lambda: overlong(0x0A, rng.randrange(1, 6)) + whole[1:],
        lambda: b"\x8a\x80\x80\x80\x10" + whole[1:],
        lambda: b"\x12" + whole[1:],
        lambda: b"\x0b" + whole + b"\x0c",
        lambda: b"\x0b" * (depth := rng.choice([1, 99, 100, 101])) + b"\x0c" * depth + whole,
        lambda: message(address + rng.choice([b"\x00", b"\n", b" ", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80"])),
        lambda: rng.randbytes(rng.randrange(1, 24)),
    ])()


def damaged(rng, text):
    """Base64 that is nearly some."""
    at = rng.randrange(max(len(text), 1))
    return rng.choice([
        lambda: text.rstrip(b"="),
        lambda: text + b"=",
        lambda: text[:at],
        lambda: text[:at] + rng.choice([b" ", b"\t", b"-", b"_", b"=", b"%3D", b"\xe9", b"*"]) + text[at:],
        lambda: text[:at] + bytes([rng.choice(b"ABab01+/")]) + text[at + 1 :],
        lambda: text[:at] + text[at + 1 :],
        lambda: text.replace(b"+", b"-").replace(b"/", b"_"),
        lambda: b"AB==",
        lambda: text + base64.b64encode(rng.randbytes(3)),
        lambda: rng.choice([b"=", b"==", b"====", b"A", b"AA==", b"AAAA"]),
    ])()


def gone_address(rng):
    return rng.choice([
        lambda: b"127.0.0.1:%d" % rng.randrange(1, 1024),
        lambda: b"10.%d.%d.%d:%d" % (rng.randrange(10), *rng.randbytes(2), rng.choice([80, 443, 8080, 9001])),
        lambda: b"[::1]:%d" % rng.randrange(1, 65536),
        lambda: b"/run/app/%d.sock" % rng.randrange(100),
    ])()


# Kind and weight. Every outcome must come to its share.
KINDS = {
    "good": 26, "legacy": 5, "gone": 12, "barred": 10, "expired": 9, "dead": 9, "absent": 8, "mutated": 20,
    "damaged": 10, "long": 2,
}


def token(rng, kind, carrier, address, now):
    """The token's text; None: there is none."""
    usable = [address[name].encode() for name in "abcd"]
    host = rng.choice([usable[3], rng.choice(usable)])
    later = now + rng.choice([30, 60, 3600, 10**9])
    past = rng.choice([now - 30, now - 3600, 100_000, 1])
    expires = rng.choice([None, later, later])
    if kind in ("absent",):
        return None
    target = {"gone": gone_address(rng), "barred": address["e"].encode(), "dead": address["dead"].encode()}
    host = target.get(kind, host)
    plain = message(host, expires) if carrier == "cookie" else host
    if kind == "legacy":
        plain = host
    elif kind == "expired":
        plain = message(host, past) if carrier == "cookie" else b""
    elif kind == "mutated":
        plain = mutated_message(rng, host, rng.choice([later, later, past]))
    elif kind == "long":
        plain = b"\x7a" + varint(size := rng.randrange(380, 900)) + b"\0" * size + message(host)
    text = base64.b64encode(plain)
    return damaged(rng, text) if kind == "damaged" else text


# ---------------------------------------------------------------- the lines around them


def cookie_lines(rng, name, text):
    """Lines of `cookie`, mostly as browsers write them."""
    other = lambda: rng.choice([b"a=b", b"theme=dark", b"x=", b"q=\"1; 2\"", b"flag", b"=v", b"k=a=b", b"u=\xc3\xa9"])
    near = lambda: rng.choice([name + b"x=1", b"x" + name + b"=1", name.upper() + b"=1", name, b"$Path=/"])
    if text is None:
        return [b"; ".join(other() for _ in range(rng.randrange(1, 4)))] if rng.random() < 0.5 else []
    plain = name + b"=" + text
    quoted = name + b'="' + text + b'"'
    odd = rng.choice([
        name + b'="' + text, name + b"=" + text + b'"', name + b" =" + text, name + b"= " + text, plain + b" ",
        name + b"==" + text, b"\t" + plain, name + b'=""' + text + b'""', name + b"='" + text + b"'", b"  " + plain,
    ])
    mine = rng.choices([plain, quoted, odd], [6, 6, 2])[0]
    pieces = [mine]
    for _ in range(rng.choice([0, 0, 1, 2, 5])):
        pieces.insert(rng.randrange(len(pieces) + 1), rng.choice([other, other, near])())
    if rng.random() < 0.12:
        rubbish = rng.choice([b"", b"!!!!", b'""', b"AAAA", text[:-1], base64.b64encode(b"10.0.0.1:8080")])
        pieces.insert(rng.randrange(len(pieces) + 1), name + b"=" + rubbish)
    joint = rng.choices([b"; ", b";", b" ; ", b";; "], [8, 2, 1, 1])[0]
    if len(pieces) > 1 and rng.random() < 0.15:
        cut = rng.randrange(1, len(pieces))
        return [joint.join(pieces[:cut]), joint.join(pieces[cut:])]
    return [joint.join(pieces)]


def header_lines(rng, text):
    if text is None:
        return rng.choice([[], [], [b""]])
    lines = [rng.choices([text, b"  " + text + b" ", b'"' + text + b'"', text + b",x"], [12, 1, 1, 1])[0]]
    if rng.random() < 0.08:
        lines.insert(rng.randrange(2), rng.choice([b"", b"AAAA", b"junk"]))
    return lines


def envelope_lines(rng, text):
    inner = base64.b64encode(rng.choice([b"origin-1", rng.randbytes(8).hex().encode(), b"a b", b"x" * 200]))
    if text is None:
        return rng.choice([[], [b"origin-1"], [b"UV:" + inner], [b";UV:" + inner], [b""]])
    bad = rng.choice([b"", b"!!!!", inner[:-1], base64.b64encode(rng.choice([b"a\r\nb", b"a\nb", b"\0"]))])
    shapes = [text + b";UV:" + inner, text, text + b";" + inner, text + b";uv:" + inner, text + b"; UV:" + inner,
              text + b";;UV:" + inner + b";", text + b";foo:bar;UV:" + inner, text + b";UV:" + bad,
              text + b";UV:" + inner + b";UV:" + bad, text + b" ;UV:" + inner]
    lines = rng.choices([[shape] for shape in shapes], [20, 1, 1, 1, 1, 1, 1, 2, 1, 1])[0]
    if rng.random() < 0.06:
        lines.insert(rng.randrange(2), rng.choice([b"", b"origin-2"]))
    return lines


def target(rng, name):
    """A request target; where the cookie has a path, about a third are out of its scope."""
    within = ["/app", "/app/", "/app/x", "/app?x=1", "/app/x?y=/app", "/app/%2e", "/app//", "/app/?", "/app/a;b=c"]
    beside = ["/", "/ap", "/appx", "/app.html", "/App/", "/%61pp/", "//app/", "/app;v=1", "/x/app", "/./app/", "/?/app/"]
    if name == "routes":
        everywhere = ["/app/off", "/app/off/x", "/app/off?x", "/app/own", "/app/own?x", "/app/firm", "/app/firm/1"]
        return rng.choice([*everywhere, "/app/off/?", "/app/off/app", "/", "/app", "/appx"])
    share = 0.65 if name in ("path", "slash") else 0.5
    return rng.choice(within) if rng.random() < share else rng.choice(beside)


def behaviour(rng, policy):
    """What the host answers."""
    if rng.random() < 0.01:
        return {"raw": ""}
    told = {}
    if rng.random() < 0.2:
        told["status"] = rng.choice([201, 204, 302, 304, 404, 500, 503])
    lines = []
    if rng.random() < 0.2:
        own = [["set-cookie", "app=1; Path=/"], ["X-Mixed-Case", "  v "], ["set-cookie", "sess=theirs"], ["x-empty", ""],
               ["etag", "\"\u00e9\""], ["server", "app"], ["cache-control", "no-store"]]
        lines = rng.sample(own, rng.randrange(1, 4))
    if policy is not None and policy.carrier != "cookie":
        sets = [[], ["origin-1"], [rng.randbytes(6).hex()], ["one", "two"], [""]]
        wanted = [1, 8, 8, 1, 1] if policy.carrier == "envelope" else [20, 1, 1, 1, 0]
        lines += [[policy.name, value] for value in rng.choices(sets, wanted)[0]]
    if rng.random() < 0.1 and told.get("status") not in (204, 304):
        told["chunks"] = rng.choice([["ok"], ["o", "k" * 300], []])
    return told | ({"headers": lines} if lines else {})


def case(seed, number, listeners, address):
    rng = random.Random(f"{seed}/{number}")
    now = int(time.time())
    listener = listeners[number % len(listeners)]
    where = target(rng, listener.name)
    policy = listener.policy(where)
    kind = rng.choices(list(KINDS), KINDS.values())[0]
    # Where sessions are switched off, a token of the listener's kind comes nonetheless.
    sought = policy or listener.session
    text = token(rng, kind, sought.carrier, address, now)
    name = sought.name.encode()
    if sought.carrier == "cookie":
        spelled = rng.choices([b"cookie", b"Cookie", b"COOKIE"], [4, 2, 1])[0]
        lines = [(spelled, line) for line in cookie_lines(rng, name, text)]
    else:
        form = header_lines if sought.carrier == "header" else envelope_lines
        lines = [(rng.choice([name, name.upper()]), line) for line in form(rng, text)]
    others = [(b"Accept", b"*/*"), (b"accept", b"text/html"), (b"X-Tag", b"  one  "), (b"x-tag", b"two"),
              (b"user-agent", b"live"), (b"x-forwarded-for", b"1.2.3.4"), (b"x-request-id", b"mine"),
              (b"X-Latin", b"caf\xe9"), (b"te", b"trailers"), (b"x-forwarded-proto", b"https")]
    for line in rng.sample(others, rng.choice([0, 0, 1, 2, 4])):
        lines.insert(rng.randrange(len(lines) + 1), line)
    method = rng.choices([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD"], [10, 4, 1, 1, 1, 1])[0]
    body = rng.randbytes(rng.choice([0, 1, 20, 3000])) if method in (b"POST", b"PUT") else b""
    told = behaviour(rng, policy)
    is_chunked = method in (b"POST", b"PUT") and rng.random() < 0.3
    return Case(number, kind, listener, method, where.encode(), lines, body, told, now, is_chunked)
