"""The clients of the soak: one process per shell, many conversations at a time, each of one kind below.

A client writes down every request in its journal, one JSON value per line:

    [ID, KIND, SAW, LEAST, MOST, STATUS]   a request: what the client saw of it; how many lines of the access log it is
                                           owed; the status that the line must have, or null
    {"hostile": [LEAST, MOST], "kind": …, "saw": …}   one connection of bytes that need not be a request
    {"nameless": KIND, "saw": SAW}         a request that was answered before its id had come: owed one line
    {"violation": TEXT}                    something that may never happen
    {"moved": KIND}                        a session was given another home, as its new token says

One line is owed to every request whose head was sent whole. None need come if the client reset the connection before it
got a byte of the answer, since a reset discards what has not been read; if the proxy closed an idle connection while the
request was on its way; or if a pipelined request stands behind one whose answer closed the connection.
"""

import asyncio
import base64
import hashlib
import json
import random
import signal
import socket

from hosts import FAULTS, accept_of, frame, pattern, read_frame, reset

# Longer than any conversation that goes on: one that takes this long hangs.
PATIENCE_SECONDS = 90
LIMIT = 1 << 17
UNANSWERED = "nothing"


class Ended(Exception):
    """The connection ended; `seen`: bytes of an answer had come."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen


class Answer:
    def __init__(self, head):
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.version, status, *_ = first.split(" ")
        self.status, self.body, self.fields = int(status), b"", {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields[name.strip().lower()] = value.strip()

    def closes(self):
        connection = self.fields.get("connection", "").lower()
        return "close" in connection or (self.version == "HTTP/1.0" and "keep-alive" not in connection)


class Channel:
    """One connection to a listener."""

    @classmethod
    async def open(cls, port, window=None):
        own = cls()
        channel = socket.socket()
        channel.setblocking(False)
        if window:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        await asyncio.get_running_loop().sock_connect(channel, ("127.0.0.1", port))
        limit = 1 << 12 if window else LIMIT
        own.reader, own.writer = await asyncio.open_connection(sock=channel, limit=limit)
        own.requests = 0
        return own

    async def send(self, data):
        """What cannot be sent any more is no error: the answer, or its lack, says what became of it."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            pass

    async def head(self):
        try:
            return Answer(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            raise Ended(bool(error.partial)) from None
        except OSError:
            raise Ended(False) from None

    async def answer(self, method="GET"):
        """The final answer, with its body."""
        answer = await self.head()
        while answer.status < 200 and answer.status != 101:
            answer = await self.head()
        try:
            if method != "HEAD" and answer.status not in (101, 204, 304):
                answer.body = await self.body(answer)
        except (asyncio.IncompleteReadError, OSError):
            raise Ended(True) from None
        return answer

    async def body(self, answer):
        if "chunked" in answer.fields.get("transfer-encoding", ""):
            body = bytearray()
            while True:
                size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
                if size == 0:
                    while await self.reader.readuntil(b"\r\n") != b"\r\n":
                        pass
                    return bytes(body)
                body += (await self.reader.readexactly(size + 2))[:-2]
        if "content-length" in answer.fields:
            return await self.reader.readexactly(int(answer.fields["content-length"]))
        return await self.reader.read(-1)

    def close(self, hard=False):
        if hard and not self.writer.transport.is_closing():
            reset(self.writer)
        else:
            self.writer.close()


class Session:
    """What a client keeps of a session: its token, by one of the carriers, and its home."""

    def __init__(self, mix, carrier):
        self.mix, self.carrier, self.token, self.home = mix, carrier, None, None

    def fields(self):
        names = {"cookie": "cookie", "header": "x-session-id", "envelope": "mcp-session-id"}
        return [f"{names[self.carrier]}: {self.token}"] if self.token else []

    def take(self, answer, identity):
        """Notes a new token. A home that changes without one is what must never happen."""
        host = answer.fields.get("x-host")
        if host is None:
            return
        before = self.token
        if self.carrier == "cookie" and "set-cookie" in answer.fields:
            self.token = answer.fields["set-cookie"].split(";")[0]
        elif self.carrier == "header" and "x-session-id" in answer.fields:
            self.token = answer.fields["x-session-id"]
        elif self.carrier == "envelope" and "mcp-session-id" in answer.fields:
            self.token = answer.fields["mcp-session-id"]
        if self.token is None:
            self.mix.violation(f"{identity}: a new session got no token: {answer.fields}")
        if self.home and host != self.home:
            if self.token == before:
                self.mix.violation(f"{identity}: the session moved silently from {self.home} to {host}")
            self.mix.write({"moved": self.carrier})
        self.home = host


class Mix:
    def __init__(self, name, ports, seed, journal):
        self.name, self.ports, self.seed = name, ports, seed
        self.journal = open(journal, "w", buffering=1)
        self.stopping = asyncio.Event()
        self.count = 0

    def write(self, value):
        self.journal.write(json.dumps(value) + "\n")

    def violation(self, text):
        self.write({"violation": text})

    def note(self, identity, kind, saw, least=1, most=1, status=None):
        self.write([identity, kind, saw, least, most, status])

    def next_id(self, kind):
        self.count += 1
        return f"{kind}-{self.count}"

    async def pause(self, seconds):
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def over(self):
        return self.stopping.is_set()

    # ---------------------------------------------------------------- one request

    def request(self, identity, path="/get", query="", method="GET", fields=(), version="1.1"):
        extra = f"&{query}" if query else ""
        lines = [f"{method} {path}?id={identity}{extra} HTTP/{version}", "host: soak.example", *fields]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def outcome(self, channel, identity, kind, method="GET", expected=None, allowed=None):
        """Reads the answer and notes the request; None: the connection is over. `expected`: the body that is owed."""
        reused, channel.requests = channel.requests > 0, channel.requests + 1
        try:
            answer = await channel.answer(method)
        except Ended as ended:
            if ended.seen:
                self.note(identity, kind, "cut")
            else:
                self.note(identity, kind, UNANSWERED, least=0 if reused else 1)
            return None
        if kind == "slow_head" and answer.status == 408:
            # On a machine that is too busy it may be too slow.
            self.write({"nameless": kind, "saw": "408"})
            return answer
        self.note(identity, kind, str(answer.status), status=answer.status)
        if "x-host" in answer.fields:
            if answer.fields.get("x-id") != identity:
                self.violation(f"{identity} got the answer of {answer.fields.get('x-id')}")
            elif method != "HEAD" and answer.status == 200 and expected is not None and answer.body != expected:
                self.violation(f"{identity}: {len(answer.body)} bytes, not the {len(expected)} it is owed")
        elif answer.status < 400:
            self.violation(f"{identity}: {answer.status} and no host")
        if allowed and answer.status not in allowed:
            self.violation(f"{identity}: the answer is {answer.status}, not one of {allowed}")
        return answer

    # ---------------------------------------------------------------- the kinds

    async def sticky(self, rng, carrier):
        """A session over a kept connection, with requests of all sizes."""
        session, channel = Session(self, carrier), await Channel.open(self.ports[carrier])
        try:
            for _ in range(rng.randrange(5, 60)):
                identity = self.next_id(carrier)
                size = rng.choice((0, 10, 500, 3000, 60_000)) if rng.random() < 0.9 else 300_000
                query = f"n={size}" + ("&chunked=1" if rng.random() < 0.3 else "")
                if rng.random() < 0.1:
                    query += f"&ms={rng.randrange(1, 2500)}"
                if carrier == "envelope":
                    query += "&env=1"
                method = "HEAD" if rng.random() < 0.05 and "chunked" not in query else "GET"
                fields = session.fields()
                if rng.random() < 0.05:
                    fields.append("x-large: " + "x" * rng.randrange(10_000, 30_000))
                await channel.send(self.request(identity, query=query, method=method, fields=fields))
                answer = await self.outcome(channel, identity, carrier, method, pattern(identity, size))
                if answer:
                    session.take(answer, identity)
                    if carrier == "header" and answer.status == 503 and "x-host" not in answer.fields:
                        # Strict: the home is gone, and the client begins anew.
                        session = Session(self, carrier)
                if self.over():
                    return
                if answer is None or answer.closes():
                    channel.close()
                    channel = await Channel.open(self.ports[carrier])
                await self.pause(rng.expovariate(2))
        finally:
            channel.close()

    async def cookie(self, rng):
        await self.sticky(rng, "cookie")

    async def header(self, rng):
        await self.sticky(rng, "header")

    async def envelope(self, rng):
        await self.sticky(rng, "envelope")

    async def newcomer(self, rng):
        """A connection and a session of its own for each request."""
        identity, close = self.next_id("newcomer"), rng.random() < 0.5
        channel = await Channel.open(self.ports["cookie"])
        try:
            fields = ["connection: close"] if close else []
            await channel.send(self.request(identity, query="n=300", fields=fields))
            answer = await self.outcome(channel, identity, "newcomer", expected=pattern(identity, 300))
            if answer:
                Session(self, "cookie").take(answer, identity)
        finally:
            channel.close()
        await self.pause(rng.expovariate(2))

    async def post(self, rng):
        """Bodies, fixed and chunked, at once or in a dribble, announced or not; the host says what it got."""
        identity = self.next_id("post")
        body = rng.randbytes(rng.choice((0, 1, 1000, 20_000, 200_000, 700_000)))
        how = rng.choice(("fixed", "fixed", "chunked", "chunked", "dribble", "expect", "unanswered expect", "large"))
        chunked = how == "chunked" or (how == "dribble" and rng.random() < 0.5)
        length = 2 << 20 if how == "large" else len(body)
        fields = ["transfer-encoding: chunked"] if chunked else [f"content-length: {length}"]
        if "expect" in how:
            fields.append("expect: 100-continue")
        query = "f=no-continue" if how == "unanswered expect" else ""
        channel = await Channel.open(self.ports["cookie"])
        try:
            await channel.send(self.request(identity, "/post", query, "POST", fields))
            if "expect" in how:
                # A final answer may come instead; then the rest of this script meets an ended connection.
                await self.pause(0.5 if how == "unanswered expect" else 0.1)
            step = max(1, len(body) // 8) if how == "dribble" else 16_000
            for at in range(0, len(body), step):
                piece = body[at : at + step]
                await channel.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                if how == "dribble":
                    await self.pause(rng.uniform(0.1, 1))
            if chunked:
                await channel.send(b"0\r\n\r\n")
            allowed = (413, 502, 503, 504) if how == "large" else (200, 408, 502, 503, 504)
            owed = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
            await self.outcome(channel, identity, "post", "POST", owed, allowed)
        finally:
            channel.close()
        await self.pause(rng.expovariate(1.5))

    async def slow_reader(self, rng):
        """Reads a large answer through a small window, a little at a time, and some of them to the end."""
        identity, size = self.next_id("slow_reader"), rng.randrange(200_000, 2_000_000)
        channel = await Channel.open(self.ports["cookie"], window=8192)
        try:
            await channel.send(self.request(identity, query=f"n={size}"))
            answer = await channel.head()
            left, pause = int(answer.fields.get("content-length", 0)), rng.uniform(0.05, 0.5)
            for _ in range(40):
                data = await channel.reader.read(2000)
                left -= len(data)
                if not data or left <= 0 or self.over():
                    break
                await self.pause(pause)
            if rng.random() < 0.5:
                while data := await channel.reader.read(1 << 16):
                    left -= len(data)
                    if left <= 0:
                        break
            self.note(identity, "slow_reader", "whole" if left <= 0 else "part", status=answer.status)
        except Ended:
            self.note(identity, "slow_reader", UNANSWERED)
        except OSError:
            self.note(identity, "slow_reader", "cut")
        finally:
            channel.close(hard=rng.random() < 0.5)

    async def slow_head(self, rng):
        """A head that comes by the byte, but in time."""
        identity = self.next_id("slow_head")
        head, channel = self.request(identity, query="n=10"), await Channel.open(self.ports["cookie"])
        try:
            pieces = sorted(rng.sample(range(1, len(head)), 6))
            for start, end in zip([0, *pieces], [*pieces, len(head)]):
                await channel.send(head[start:end])
                await asyncio.sleep(rng.uniform(0.01, 0.2))
            await self.outcome(channel, identity, "slow_head", expected=pattern(identity, 10))
        finally:
            channel.close()

    async def half_closer(self, rng):
        """Closes its sending side behind the request; an answer that takes long may then not come."""
        identity = self.next_id("half_closer")
        channel = await Channel.open(self.ports["cookie"])
        try:
            pause = rng.choice((0, 300, 1500))
            await channel.send(self.request(identity, query=f"n=5000&ms={pause}"))
            channel.writer.write_eof()
            await self.outcome(channel, identity, "half_closer", expected=pattern(identity, 5000))
        finally:
            channel.close()
        await self.pause(rng.expovariate(1))

    async def aborter(self, rng):
        """Leaves: at once, while it waits, inside its own body, or inside the answer."""
        identity = self.next_id("aborter")
        channel = await Channel.open(self.ports["cookie"])
        how, hard = rng.choice(("at once", "waiting", "in the body", "in the answer")), rng.random() < 0.5
        try:
            if how == "in the body":
                fields = ["content-length: 100000"]
                await channel.send(self.request(identity, "/post", "", "POST", fields) + bytes(rng.randrange(70_000)))
                await asyncio.sleep(rng.uniform(0, 0.3))
            elif how == "waiting":
                await channel.send(self.request(identity, query="n=10&ms=30000"))
                await self.pause(rng.uniform(0.1, 4))
            else:
                await channel.send(self.request(identity, query="n=2000000"))
            if how == "in the answer":
                answer = await channel.head()
                await channel.reader.read(rng.randrange(1, 100_000))
                self.note(identity, "aborter", how, status=answer.status)
            else:
                self.note(identity, "aborter", how, least=0 if hard else 1)
        except (Ended, OSError):
            self.note(identity, "aborter", "cut")
        finally:
            channel.close(hard)
        await self.pause(rng.expovariate(1))

    async def web_socket(self, rng):
        """Messages there and back for a while; at the end a close, or the connection just goes."""
        identity, session = self.next_id("web_socket"), Session(self, "cookie")
        channel = await Channel.open(self.ports["cookie"])
        hard, saw = rng.random() < 0.3, "cut"
        try:
            key = base64.b64encode(rng.randbytes(16)).decode()
            fields = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", f"sec-websocket-key: {key}"]
            await channel.send(self.request(identity, "/ws", fields=fields))
            answer = await channel.answer()
            if answer.status != 101:
                self.note(identity, "web_socket", str(answer.status), status=answer.status)
                return
            session.take(answer, identity)
            if answer.fields.get("sec-websocket-accept") != accept_of(key):
                self.violation(f"{identity}: the handshake is of another: {answer.fields}")
            try:
                for _ in range(rng.randrange(1, 60)):
                    text = rng.randbytes(rng.choice((1, 100, 10_000)))
                    await channel.send(frame(2, text, rng.randbytes(4)))
                    if await read_frame(channel.reader) != (2, text):
                        self.violation(f"{identity}: the echo is not what was sent")
                    await self.pause(rng.expovariate(2))
                    if self.over():
                        break
                if not hard:
                    await channel.send(frame(8, b"\x03\xe8", rng.randbytes(4)))
                    await read_frame(channel.reader)
                saw = "left" if hard else "closed"
            except (EOFError, OSError):
                pass
            self.note(identity, "web_socket", saw, status=101)
        except Ended:
            self.note(identity, "web_socket", UNANSWERED)
        finally:
            channel.close(hard)

    async def events(self, rng):
        """A stream of events, to its end or not."""
        identity, count = self.next_id("events"), rng.randrange(5, 200)
        channel = await Channel.open(self.ports["cookie"])
        stays, saw = rng.random() < 0.5, "cut"
        try:
            await channel.send(self.request(identity, "/sse", f"n={count}&ms=200", fields=["accept: text/event-stream"]))
            answer = await channel.head()
            if answer.status != 200:
                self.note(identity, "events", str(answer.status), status=answer.status)
                return
            try:
                for number in range(count if stays else rng.randrange(count)):
                    event = f"id: {number}\ndata: {identity}\n\n".encode()
                    await channel.reader.readuntil(b"\r\n")
                    if await channel.reader.readexactly(len(event) + 2) != event + b"\r\n":
                        self.violation(f"{identity}: event {number} is of another stream")
                    if self.over():
                        break
                saw = "whole" if stays else "left"
            except (EOFError, OSError):
                pass
            self.note(identity, "events", saw, status=200)
        except Ended:
            self.note(identity, "events", UNANSWERED)
        finally:
            channel.close(hard=rng.random() < 0.3)

    async def pipeline(self, rng):
        """Several requests in one piece, answered in their order."""
        ids = [self.next_id("pipeline") for _ in range(rng.randrange(2, 9))]
        channel = await Channel.open(self.ports["cookie"])
        try:
            await channel.send(b"".join(self.request(identity, query="n=700") for identity in ids))
            for nth, identity in enumerate(ids):
                answer = await self.outcome(channel, identity, "pipeline", expected=pattern(identity, 700))
                if answer is None or answer.closes():
                    for behind in ids[nth + 1 :]:
                        self.note(behind, "pipeline", "behind the end", least=0, most=0)
                    break
        finally:
            channel.close()
        await self.pause(rng.expovariate(0.5))

    async def old(self, rng):
        """HTTP/1.0, with and without keep-alive; chunked answers must be undone for it."""
        stays = rng.random() < 0.5
        channel = await Channel.open(self.ports["cookie"])
        try:
            for _ in range(rng.randrange(1, 6)):
                identity, query = self.next_id("old"), "n=9000" + ("&chunked=1" if rng.random() < 0.5 else "")
                fields = ["connection: keep-alive"] if stays else []
                await channel.send(self.request(identity, query=query, fields=fields, version="1.0"))
                answer = await self.outcome(channel, identity, "old", expected=pattern(identity, 9000))
                if answer is None or answer.closes() or not stays or "content-length" not in answer.fields:
                    break
                await self.pause(rng.expovariate(2))
        finally:
            channel.close()
        await self.pause(rng.expovariate(1))

    async def asker(self, rng):
        """Asks its host for a fault; on one connection several, so that links are reused behind one."""
        channel = await Channel.open(self.ports["cookie"])
        owed = {
            "reset-head": (502,), "close-head": (502,), "garbage": (502,), "silent": (504,), "half-head": (502, 504),
            "reset-body": (), "close-body": (), "stall-body": (), "long": (200,), "interim": (200,),
            "close-after": (200,), "early": (200,),
        }
        try:
            for _ in range(rng.randrange(1, 5)):
                fault, identity = rng.choice(FAULTS), self.next_id("asker")
                early = fault == "early"
                fields = ["content-length: 50000"] if early else []
                path, method = ("/post", "POST") if early else ("/fault", "GET")
                request = self.request(identity, path, f"f={fault}", method, fields)
                await channel.send(request + (bytes(50_000) if early else b""))
                size = 100 if early else 20_000
                # A host that is down or stopped at the time has the last word.
                allowed = (*owed[fault], 502, 503, 504)
                answer = await self.outcome(
                    channel, identity, f"fault {fault}", method, pattern(identity, size), allowed
                )
                if answer is None or answer.closes():
                    break
        finally:
            channel.close()
        await self.pause(rng.expovariate(1))

    async def idler(self, rng):
        """Asks once and stays until the proxy has had enough, or until another request just in time, or too late."""
        channel = await Channel.open(self.ports["cookie"])
        try:
            for _ in range(3):
                identity = self.next_id("idler")
                await channel.send(self.request(identity, query="n=10"))
                answer = await self.outcome(channel, identity, "idler", expected=pattern(identity, 10))
                if answer is None or answer.closes() or self.over():
                    return
                try:
                    await asyncio.wait_for(channel.reader.read(1), rng.choice((1, 7.9, 30)))
                    return
                except asyncio.TimeoutError:
                    pass
        finally:
            channel.close()

    # ---------------------------------------------------------------- bytes that need not be a request

    async def hostile(self, kind, data, leaves=False, trickle=0):
        """Sends bytes and reads to the end. Every answer is owed a line; a last request that was not answered may have
        one too."""
        channel, answers, last, saw = await Channel.open(self.ports["hostile"]), 0, None, []
        try:
            if trickle:
                for at in range(len(data)):
                    await channel.send(data[at : at + 1])
                    await asyncio.sleep(trickle)
                    if channel.reader.at_eof() or channel.reader._buffer:
                        break
            else:
                await channel.send(data)
            if leaves:
                channel.writer.write_eof()
            try:
                while True:
                    last = await channel.answer()
                    answers += 1
                    saw.append(str(last.status))
                    if last.closes():
                        break
            except (Ended, ValueError, asyncio.LimitOverrunError):
                pass
        except OSError:
            pass
        finally:
            channel.close()
        final = last is not None and last.closes()
        self.write({"hostile": [answers, answers + (0 if final else 1)], "kind": kind, "saw": " ".join(saw) or UNANSWERED})

    async def garbage(self, rng):
        """Random bytes, a request with some of its bytes changed, and things that are known to be no request."""
        good = b"POST /post?id=garbage HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\ncookie: sid=\"AAAA\"\r\n\r\n" + b"b" * 20
        how = rng.randrange(3)
        if how == 0:
            data = rng.randbytes(rng.randrange(1, 5000))
        elif how == 1:
            changed = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed)
        else:
            data = rng.choice((
                b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\nhost: h\r\n\r\n", b"GET /\r\n", b"\r\n" * 20,
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: h\r\n" + b"x: y\r\n" * 200 + b"\r\n",
                good.replace(b"host", b"transfer-encoding: chunked\r\nhost"),
                good.replace(b"content-length: 20", b"transfer-encoding: chunked"),
                good.replace(b"host: h", b"host: h\r\nhost: g"), good + b"GARBAGE\r\n\r\n" + good,
            ))
        await self.hostile("garbage", data, leaves=rng.random() < 0.7)
        await self.pause(rng.expovariate(1))

    async def slow_loris(self, rng):
        """A head that never ends: answered with 408."""
        head = b"GET /get?id=loris HTTP/1.1\r\nhost: h\r\nx-a: " + b"b" * 200
        await self.hostile("slow_loris", head, trickle=rng.uniform(0.05, 0.5))

    async def silent_body(self, rng):
        """A body that stops: answered with 408."""
        await self.hostile("silent_body", b"POST /post?id=silent HTTP/1.1\r\nhost: h\r\ncontent-length: 900\r\n\r\nhalf")
        await self.pause(rng.expovariate(1))

    async def silent_client(self, rng):
        """Connects and says nothing, or leaves inside its head."""
        channel = await Channel.open(self.ports["hostile"])
        if rng.random() < 0.5:
            await channel.send(b"GET /get HTTP/1.1\r\nho")
        await self.pause(rng.uniform(0.1, 2))
        channel.close(hard=rng.random() < 0.5)
        self.write({"hostile": [0, 0], "kind": "silent_client", "saw": "left"})

    # ---------------------------------------------------------------- all of them

    KINDS = {
        "cookie": 7, "header": 4, "envelope": 2, "newcomer": 3, "post": 4, "slow_reader": 6, "slow_head": 1,
        "half_closer": 2, "aborter": 4, "web_socket": 8, "events": 8, "pipeline": 2, "old": 2, "asker": 6, "idler": 8,
        "garbage": 2, "slow_loris": 2, "silent_body": 1, "silent_client": 2,
    }

    async def repeat(self, kind, nth, load):
        rng = random.Random(f"{self.seed} {self.name} {kind} {nth}")
        await self.pause(rng.uniform(0, 5 / load))
        while not self.over():
            try:
                await asyncio.wait_for(getattr(self, kind)(rng), PATIENCE_SECONDS)
            except asyncio.TimeoutError:
                self.violation(f"a conversation of kind {kind} hangs: more than {PATIENCE_SECONDS} s")
            except OSError as error:
                self.violation(f"{kind}: the listener does not answer: {error}")
                await self.pause(1)

    async def run(self, load):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        everyone = [
            self.repeat(kind, nth, load) for kind, count in self.KINDS.items() for nth in range(max(1, round(count * load)))
        ]
        await asyncio.gather(*everyone)
        self.journal.close()


def run(name, ports, seed, journal, load):
    """The clients of one shell, until SIGTERM; then every conversation comes to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def start():
        await Mix(name, ports, seed, journal).run(load)

    asyncio.run(start())
