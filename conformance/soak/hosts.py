"""The upstream hosts of the soak: each a process of its own, so that killing and stopping one is the real thing.

What a host answers stands in the query of the request's target, so that the client knows what it is owed:

    /get?n=BYTES[&chunked=1]   so many bytes of the pattern of the request's id (`shared`: kept for the next)
    /post                      the length and the SHA-256 of the body that came
    /sse?n=EVENTS&ms=PAUSE     a stream of events
    /ws                        a WebSocket that echoes
    /fault?f=NAME              one of FAULTS

Every request has `id`; `ms` delays the answer. Every answer carries `x-host`, the host's address, and `x-id`.
"""

import asyncio
import base64
import functools
import hashlib
import os
import signal
import socket
import struct
import time
import urllib.parse

FAULTS = (
    "reset-head", "close-head", "half-head", "silent", "garbage", "reset-body", "close-body", "stall-body", "long",
    "early", "interim", "close-after",
)
# Longer than any time-out that the soak sets: whoever waits this long has been forgotten.
SILENCE_SECONDS = 40
HEAD_MAX = 1 << 17
# Bytes that are handed to the kernel at a time.
PIECE = 1 << 16


def pattern(identity, length):
    """The body that a request is owed: no two requests have the same, so that bytes which cross over are found."""
    unit = (identity + ".").encode()
    return (unit * (length // len(unit) + 1))[:length]


large = functools.lru_cache(maxsize=4)(pattern)


async def read_frame(reader):
    """One WebSocket frame, short or of 16 bits: its opcode and its payload."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        length = struct.unpack("!H", await reader.readexactly(2))[0]
    mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
    payload = await reader.readexactly(length)
    repeated = (mask * (length // 4 + 1))[:length]
    clear = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return first & 0x0F, clear.to_bytes(length, "big")


def frame(opcode, payload, mask=None):
    """One WebSocket frame; a client's has a mask of four bytes."""
    length = len(payload)
    masked = 0x80 if mask else 0
    head = bytes([0x80 | opcode]) + (
        bytes([masked | length]) if length < 126 else struct.pack("!BH", masked | 126, length)
    )
    if mask:
        repeated = (mask * (length // 4 + 1))[:length]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
        head += mask
    return head + payload


def accept_of(key):
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def reset(writer):
    """Ends the connection with a reset instead of an orderly close."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_chunked(reader):
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        body += await reader.readexactly(size)
        line = await reader.readuntil(b"\r\n")
        if size == 0:
            while line != b"\r\n":
                line = await reader.readuntil(b"\r\n")
            return bytes(body)


class Request:
    def __init__(self, head):
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, target, self.version = first.split(" ")
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields[name.strip().lower()] = value.strip()
        self.id = self.query.get("id", "")

    def body(self):
        """The body that is asked for. Of a large one there is one copy for all who ask with the same target."""
        return large(self.id, self.number("n")) if "shared" in self.query else pattern(self.id, self.number("n"))

    def number(self, name, default=0):
        return int(self.query.get(name, default))


class Host:
    def __init__(self, port):
        self.name = f"127.0.0.1:{port}"

    async def converse(self, reader, writer):
        try:
            goes_on = True
            while goes_on:
                request = Request(await reader.readuntil(b"\r\n\r\n"))
                if request.query.get("f") == "early":
                    await self.early(writer, request)
                    return
                body = await self.read_body(reader, writer, request)
                if pause := request.number("ms") if request.path != "/sse" else 0:
                    await asyncio.sleep(pause / 1000)
                goes_on = await self.answer(reader, writer, request, body)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def read_body(self, reader, writer, request):
        if request.fields.get("expect", "").lower() == "100-continue" and request.query.get("f") != "no-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in request.fields.get("transfer-encoding", "").lower():
            return await read_chunked(reader)
        return await reader.readexactly(int(request.fields.get("content-length", "0")))

    def head(self, request, status=200, *lines):
        own = [f"x-host: {self.name}", f"x-id: {request.id}", *lines]
        if "env" in request.query:
            # A session of the application's own, which the proxy wraps.
            own.append(f"mcp-session-id: {request.fields.get('mcp-session-id', 'own')}")
        return ("\r\n".join([f"HTTP/1.1 {status} -", *own]) + "\r\n\r\n").encode()

    async def answer(self, reader, writer, request, body):
        """Whether the connection goes on."""
        if request.path == "/ws":
            await self.echo(reader, writer, request)
            return False
        if request.path == "/sse":
            return await self.stream(writer, request)
        if request.path == "/fault":
            return await self.fail(reader, writer, request)
        if request.path == "/post":
            sent = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
        else:
            sent = memoryview(request.body())
        if "chunked" in request.query:
            writer.write(self.head(request, 200, "transfer-encoding: chunked"))
            for at in range(0, len(sent), 5000):
                piece = sent[at : at + 5000]
                writer.write(b"%x;soak\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\nx-trailer: 1\r\n\r\n")
        else:
            writer.write(self.head(request, 200, f"content-length: {len(sent)}"))
            for at in range(0, len(sent) if request.method != "HEAD" else 0, PIECE):
                writer.write(sent[at : at + PIECE])
                await writer.drain()
        await writer.drain()
        return True

    async def stream(self, writer, request):
        writer.write(self.head(request, 200, "content-type: text/event-stream", "transfer-encoding: chunked"))
        for number in range(request.number("n")):
            event = f"id: {number}\ndata: {request.id}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(request.number("ms") / 1000)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def echo(self, reader, writer, request):
        accept = accept_of(request.fields.get("sec-websocket-key", ""))
        lines = ["upgrade: websocket", "connection: upgrade", f"sec-websocket-accept: {accept}"]
        writer.write(self.head(request, 101, *lines))
        while True:
            opcode, payload = await read_frame(reader)
            writer.write(frame(opcode, payload))
            await writer.drain()
            if opcode == 8:
                return

    async def early(self, writer, request):
        """The answer before the body is read; the connection ends with it."""
        body = pattern(request.id, 100)
        writer.write(self.head(request, 200, "content-length: 100", "connection: close") + body)
        await writer.drain()
        await asyncio.sleep(0.2)

    async def fail(self, reader, writer, request):
        fault, body = request.query.get("f"), pattern(request.id, 20_000)
        head = self.head(request, 200, f"content-length: {len(body)}")
        if fault == "reset-head":
            reset(writer)
        elif fault == "half-head":
            writer.write(head[:20])
            await asyncio.wait_for(reader.read(1), SILENCE_SECONDS)
        elif fault == "silent":
            await asyncio.wait_for(reader.read(1), SILENCE_SECONDS)
        elif fault == "garbage":
            writer.write(hashlib.sha512(request.id.encode()).digest() * 20)
        elif fault in ("reset-body", "close-body", "stall-body"):
            writer.write(head + body[:7000])
            await writer.drain()
            if fault == "reset-body":
                await asyncio.sleep(0.05)
                reset(writer)
            elif fault == "stall-body":
                await asyncio.wait_for(reader.read(1), SILENCE_SECONDS)
        elif fault == "long":
            writer.write(head + body + b"more than was declared")
        elif fault == "interim":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + head + body)
            await writer.drain()
            return True
        elif fault == "close-after":
            # Nothing announces that the link ends: a request may already be on its way.
            writer.write(head + body)
        await writer.drain()
        return False


def run(port):
    """Serves on this port of the loopback until the process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def serve():
        listening = socket.socket()
        # The port is held by the parent, bound but not listening: nobody else gets it while this host is down.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(512)
        server = await asyncio.start_server(Host(port).converse, sock=listening, limit=HEAD_MAX)
        await server.serve_forever()

    try:
        asyncio.run(serve())
    finally:
        os._exit(1)


def hold():
    """A socket that holds a port of the loopback: bound but not listening, so that connections are refused, and nobody
    else gets the port while the host that listens on it is down."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Fleet:
    """The hosts as processes, and what is done to them."""

    def __init__(self, context, count):
        self.context, self.held, self.ports = context, [], []
        for _ in range(count):
            self.held.append(hold())
            self.ports.append(self.held[-1].getsockname()[1])
        self.processes = [self.begin(port) for port in self.ports]
        self.kills = self.stalls = 0
        self.due = []

    def begin(self, port):
        process = self.context.Process(target=run, args=(port,), daemon=True)
        process.start()
        return process

    def wait(self):
        """Until all of them answer."""
        for port in self.ports:
            end = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise SystemExit(f"the host on port {port} does not answer") from None
                    time.sleep(0.02)

    def addresses(self):
        return [f"127.0.0.1:{port}" for port in self.ports]

    def hurt(self, random, now):
        """Kills or stops a host that is well, and notes when that ends. At least two hosts stay well."""
        unwell = {host for _, host, _ in self.due}
        well = [host for host in range(len(self.ports)) if host not in unwell]
        if len(well) <= 2:
            return
        host = random.choice(well)
        if random.random() < 0.6:
            self.kills += 1
            self.processes[host].kill()
            self.processes[host].join()
            self.due.append((now + random.uniform(0.2, 6), host, "begin"))
        else:
            self.stalls += 1
            os.kill(self.processes[host].pid, signal.SIGSTOP)
            self.due.append((now + random.uniform(0.2, 4), host, "go on"))

    def heal(self, now):
        """Ends what is due."""
        for entry in [entry for entry in self.due if entry[0] <= now]:
            self.due.remove(entry)
            _, host, how = entry
            if how == "begin":
                self.processes[host] = self.begin(self.ports[host])
            else:
                os.kill(self.processes[host].pid, signal.SIGCONT)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.join()
        for held in self.held:
            held.close()
