#!/usr/bin/env python3
"""Back-pressure: thousands of readers of one byte a second; first clients of large answers, then hosts of large bodies.

    slow_readers.py [--connections 10000] [--uploads 1000] [--seconds 60] [--runtimes monoio,mio,tokio]

For each runtime, two rounds. *Downloads*: every client asks for BODY bytes and reads one byte a second. *Uploads*: every
client sends BODY bytes as fast as it can, and the host reads one byte a second. Homing's memory (heap and stacks) is
sampled all the while; then some hundreds read as fast as they can, and what was held back must arrive whole and unchanged.

  bound   what Homing holds, above what it held before, is at most one large window per connection (the direction
          that is held back), 5 KiB of bookkeeping, and the pool of empty windows that each worker keeps: a tighter
          bound than the one of docs/configuration.md, which counts both directions
  flat    the last sample is at most 1.02 times the first one after all had connected, give or take 1 MiB
  whole   every body that is read to its end is what was sent
  free    descriptors go back to what they were
  back    so does memory, but for 2 MiB a process, within a minute (docs/decisions/0011)

A connection takes two descriptors of Homing, so there are as many processes as the limit demands. A small receive
buffer that is read by the byte is announced as free much later, so `bodyIdleTimeout` is an hour here: as it is by
default, such clients are cut off after a minute. Loopback only, Python 3.10 and no packages. Exit status: 0 all well,
1 not so, 2 it could not run.
"""

import asyncio
import hashlib
import multiprocessing
import os
import selectors
import shutil
import signal
import socket
import tempfile
import time

from proxy import Homing, arguments, descriptor_limit, find_homing, guarded

BODY = 1 << 20
CONTENT = b"".join(hashlib.sha512(b"%d" % nth).digest() for nth in range(BODY // 64))
DIGEST = hashlib.sha256(CONTENT).hexdigest().encode()
# A large window with its head room (core/src/limits.rs), and what a connection may take beside it.
WINDOW_LARGE, BOOKKEEPING = 65 * 1024, 5 * 1024
# Empty windows that a worker keeps for the next who needs one: 256 of each size.
POOL = 256 * (WINDOW_LARGE + 16 * 1024)
FLAT, FLAT_KIB = 1.02, 1024
# Growth that counts as none, in so many seconds.
SETTLED_KIB, SETTLED_ROUNDS = 256, 4
# Small buffers in the kernel, so that what is not read waits in the proxy and not there.
RECEIVE_BUFFER, SEND_BUFFER = 4096, 16_384
# As on an Ethernet. With the loopback's 64 KiB, each connection would get megabytes of buffers from the kernel.
SEGMENT = 1460
PIECE = 8192
# Connections that are begun at a time, and bodies that are read to their end.
GROUP, FINISHERS = 200, 300
# Of those, once they are in a hurry.
QUICK_BUFFER = 1 << 18
SAMPLE_SECONDS = 2
# Descriptors that a process needs beside its connections.
SPARE = 100
# For a person's sake only.
PATIENCE_SECONDS = 300
# Until memory is given back, and what may stay with a process.
GIVEN_BACK_SECONDS, KEPT_KIB = 60, 2048
LIMITS = {"bodyIdleTimeout": "1h", "responseTimeout": "1h", "connectTimeout": "1m", "linkIdleTimeout": "1s"}


# ---------------------------------------------------------------- the host


async def read_slowly(reader, left, is_slow):
    """The SHA-256 of a body, read by the byte while `is_slow` is set."""
    digest = hashlib.sha256()
    while left:
        if is_slow.value:
            data = await reader.read(1)
            await asyncio.sleep(1)
        else:
            data = await reader.read(min(left, 1 << 16))
        if not data:
            raise EOFError
        digest.update(data)
        left -= len(data)
    return digest.hexdigest().encode()


def serve(listening, is_slow):
    """Answers GET with the content, and POST with the digest of its body."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def converse(reader, writer):
        writer.transport.set_write_buffer_limits(high=PIECE)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = CONTENT if head.startswith(b"get ") else await read_slowly(reader, length, is_slow)
                writer.write(b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n" % len(body))
                for at in range(0, len(body), PIECE):
                    writer.write(body[at : at + PIECE])
                    await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def run():
        server = await asyncio.start_unix_server(converse, sock=listening, limit=PIECE, backlog=4096)
        await server.serve_forever()

    asyncio.run(run())


class Host:
    """The host's process, on a unix socket: the kernel's memory for TCP is for the clients, of whom there are many. It
    has descriptors of its own."""

    def __init__(self, context, path):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(4096)
        self.path, self.is_slow = path, context.Value("b", 1)
        self.process = context.Process(target=serve, args=(listening, self.is_slow), daemon=True)
        self.process.start()
        listening.close()

    def stop(self):
        self.process.terminate()
        self.process.join()


# ---------------------------------------------------------------- the clients


class Client:
    """One connection: a request to send, and an answer to read."""

    def __init__(self, port, request):
        self.channel = socket.socket()
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        self.channel.connect(("127.0.0.1", port))
        self.channel.setblocking(False)
        self.out, self.head, self.length, self.body = memoryview(request), b"", None, b""
        self.count, self.digest = 0, hashlib.sha256()

    def send(self):
        """Sends what the kernel takes."""
        try:
            while self.out:
                self.out = self.out[self.channel.send(self.out[: 1 << 16]) :]
        except BlockingIOError:
            pass

    def read(self, most):
        """Reads so many bytes of the body, or what is there. The head, which comes before, is read as a whole."""
        try:
            while self.length is None:
                self.take(self.channel.recv(1))
                if self.head.endswith(b"\r\n\r\n"):
                    if not self.head.startswith(b"HTTP/1.1 200 "):
                        raise ConnectionError(f"the answer is {self.head!r}")
                    self.length = int(self.head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while most > 0 and self.count < self.length:
                most -= self.take(self.channel.recv(min(most, self.length - self.count, 1 << 16)))
        except BlockingIOError:
            pass

    def take(self, data):
        if not data:
            raise ConnectionError(f"the connection ended after {self.count} of {self.length} bytes")
        if self.length is None:
            self.head += data
        else:
            self.digest.update(data)
            self.count += len(data)
            if self.length < 100:
                self.body += data
        return len(data)

    def is_over(self):
        return self.length is not None and self.count == self.length

    def is_whole(self):
        """Whether a download is the content, or the answer to an upload says that the host got it."""
        return self.is_over() and (self.digest.hexdigest().encode() == DIGEST or self.body == DIGEST)


def finish(clients):
    """Reads and sends as fast as possible until every answer is over; whoever fails is left as it is."""
    ready = selectors.DefaultSelector()
    for client in clients:
        client.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUICK_BUFFER)
        ready.register(client.channel, selectors.EVENT_READ | (selectors.EVENT_WRITE if client.out else 0), client)
    end, failures = time.monotonic() + PATIENCE_SECONDS, []
    while ready.get_map() and time.monotonic() < end:
        for key, events in ready.select(1):
            client = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    client.send()
                    if not client.out:
                        ready.modify(client.channel, selectors.EVENT_READ, client)
                client.read(BODY)
            except OSError as error:
                failures.append(str(error))
                ready.unregister(client.channel)
                continue
            if client.is_over():
                ready.unregister(client.channel)
    return failures


# ---------------------------------------------------------------- a round


class Round:
    def __init__(self, runtime, what, count, options, binary, work):
        self.name, self.count, self.seconds, self.well = f"{runtime}: {what}", count, options.seconds, True
        context = multiprocessing.get_context("fork")
        self.host = Host(context, os.path.join(work, f"{runtime}-{what}.sock"))
        processes = -(-(2 * count + SPARE) // descriptor_limit())
        settings = {
            "limits": LIMITS,
            "listeners": [{"name": "web", "address": "127.0.0.1:0", "routes": [{"forward": {"cluster": "app"}}]}],
            "clusters": [{"name": "app", "hosts": [f"unix:{self.host.path}"]}],
        }
        self.homings = [Homing(f"{runtime}-{what}-{nth}", settings, work, runtime, binary) for nth in range(processes)]
        self.is_upload, self.request = what == "uploads", b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
        if self.is_upload:
            self.request = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % BODY + CONTENT

    def check(self, what, holds, figures):
        self.well &= holds
        print(f"{'PASS' if holds else 'FAIL'} {self.name}: {what}: {figures}", flush=True)

    def memory(self):
        return sum(homing.memory()["own"] for homing in self.homings)

    def descriptors(self):
        return sum(homing.descriptors() for homing in self.homings)

    def second(self, everyone):
        """One second of slow reading."""
        begin = time.monotonic()
        for client in everyone:
            client.send()
            client.read(1)
        time.sleep(max(0.0, 1 - (time.monotonic() - begin)))

    def arrive(self, group, links):
        """Until every client of the group has the head of its answer; one that sends is answered later: then until
        all links are made."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for client in group:
                client.send()
                client.read(0)
            if self.descriptors() >= links and (self.is_upload or all(client.length is not None for client in group)):
                return
            time.sleep(0.01)

    def run(self):
        descriptors, before = sum(homing.at_rest() for homing in self.homings), self.memory()
        everyone = []
        while len(everyone) < self.count:
            # In groups: queues that overflow are not what is tried here.
            for nth in range(len(everyone), min(len(everyone) + GROUP, self.count)):
                port = self.homings[nth % len(self.homings)].ports["web"]
                everyone.append(Client(port, self.request))
            self.arrive(everyone[-GROUP:], descriptors + 2 * len(everyone))
        # Until every link is made and every window that will be filled is: memory has stopped to grow, and not since
        # a moment ago.
        end, held = time.monotonic() + PATIENCE_SECONDS, [before]
        links = descriptors + 2 * self.count
        while time.monotonic() < end and (
            self.descriptors() < links or len(held) <= SETTLED_ROUNDS or held[-1] > held[-SETTLED_ROUNDS] + SETTLED_KIB
        ):
            self.second(everyone)
            held.append(self.memory())
        samples, began = [self.memory()], time.monotonic()
        while time.monotonic() - began < self.seconds:
            self.second(everyone)
            if time.monotonic() - began >= len(samples) * SAMPLE_SECONDS:
                samples.append(self.memory())
        reached, most = self.descriptors(), max(samples)
        grown, processes = (most - before) * 1024, len(self.homings)
        bound = processes * POOL + self.count * (WINDOW_LARGE + BOOKKEEPING)
        self.check(
            "bound", grown <= bound and reached >= links,
            f"{self.count} connections on {processes} processes, {reached} descriptors; {before} KiB before, at most "
            f"{most} KiB: {grown / self.count:.0f} bytes a connection, {grown / bound:.2f} of the bound",
        )
        self.check(
            "flat", samples[-1] <= FLAT * samples[0] + FLAT_KIB,
            f"{samples[0]} KiB at first, {samples[-1]} KiB after {self.seconds} s",
        )
        self.host.is_slow.value = 0
        some = everyone[:: -(-self.count // FINISHERS)]
        failures = finish(some)
        whole = sum(client.is_whole() for client in some)
        said = f", {len(failures)} failed, as: {failures[0]}" if failures else ""
        self.check("whole", whole == len(some), f"{whole} of {len(some)} bodies of {BODY} bytes{said}")
        for client in everyone:
            client.channel.close()
        end = time.monotonic() + PATIENCE_SECONDS
        while self.descriptors() > descriptors and time.monotonic() < end:
            time.sleep(0.1)
        left = self.descriptors()
        self.check("free", left <= descriptors, f"{left} descriptors, {descriptors} before")
        end, most = time.monotonic() + GIVEN_BACK_SECONDS, before + processes * KEPT_KIB
        while self.memory() > most and time.monotonic() < end:
            time.sleep(1)
        after = self.memory()
        self.check("back", after <= most, f"{after} KiB at the end, {before} KiB before")
        statuses = [homing.stop() for homing in self.homings]
        self.check("exit", not any(statuses), f"status {statuses}")
        return self.well

    def stop(self):
        for homing in self.homings:
            homing.kill()
        self.host.stop()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=10_000, help="slow clients; 0: leave this round out")
    parser.add_argument("--uploads", type=int, default=1000, help="uploads to a slow host; 0: leave this round out")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    binary, limit = find_homing(options.homing), descriptor_limit()
    if max(options.connections, options.uploads) + SPARE > limit:
        raise SystemExit(f"slow_readers.py: the limit on descriptors is {limit}; the clients alone need more")
    well, work = True, tempfile.mkdtemp(prefix="homing-slow-")
    try:
        for runtime in options.runtimes.split(","):
            for what, count in (("downloads", options.connections), ("uploads", options.uploads)):
                if count:
                    turn = Round(runtime, what, count, options, binary, work)
                    try:
                        well &= turn.run()
                    finally:
                        turn.stop()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if well else 1


if __name__ == "__main__":
    guarded(main)
