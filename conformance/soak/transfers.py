#!/usr/bin/env python3
"""Bodies of a gigabyte, up and down, with their SHA-256 taken at both ends.

    transfers.py [--mib 1024] [--runtimes monoio,mio,tokio]

For each runtime: a chunked upload and a chunked download by curl, a chunked upload and one download of a declared length by
Python's http.client. No two blocks of a body are the same, so that one that is lost, doubled or moved is found. While
the bytes pass, Homing's memory (heap and stacks) is sampled: it may grow by what two windows and their pool can take, and
not with the size of the body. Loopback only; curl, Python 3.10 and no packages. Exit status: 0 all well, 1 not so, 2 it
could not run.
"""

import hashlib
import http.client
import multiprocessing
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
import time

from proxy import Homing, arguments, find_homing, guarded

MIB = 1 << 20
BASE = b"".join(hashlib.sha512(b"%d" % nth).digest() for nth in range(MIB // 64))
# Memory of the program that a first transfer touches, whatever its size.
GROWTH_KIB = 1024
SAMPLE_SECONDS = 0.1
# For a person's sake only: a transfer that hangs fails.
PATIENCE_SECONDS = 300


def blocks(mib):
    """A body, a MiB at a time."""
    for nth in range(mib):
        yield nth.to_bytes(8, "big") + BASE[8:]


def digest_of(pieces):
    digest, count = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        count += len(piece)
    return digest.hexdigest(), count


class Upstream(socketserver.StreamRequestHandler):
    """GET /fixed/MIB and /chunked/MIB answer with a body; PUT answers with the digest of the one that came."""

    rbufsize = MIB

    def chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass

    def handle(self):
        while first := self.rfile.readline().decode():
            fields = {}
            while (line := self.rfile.readline().decode().strip()):
                name, _, value = line.partition(":")
                fields[name.lower()] = value.strip()
            method, target, _ = first.split(" ")
            _, how, mib = (target + "//").split("/")[:3]
            if method == "PUT":
                assert "chunked" in fields.get("transfer-encoding", ""), fields
                text = "{} {}".format(*digest_of(self.chunks())).encode()
                self.wfile.write(b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
            elif how == "fixed":
                self.wfile.write(b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n" % (int(mib) * MIB))
                for block in blocks(int(mib)):
                    self.wfile.write(block)
            else:
                self.wfile.write(b"HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n")
                for block in blocks(int(mib)):
                    # Chunks of odd sizes, so that their edges fall everywhere.
                    for at in range(0, MIB, 300_007):
                        piece = block[at : at + 300_007]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


def serve(server):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server.serve_forever()


# ---------------------------------------------------------------- the transfers; each returns (digest, bytes)


def curl(port, path, *options, pieces=None):
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "-H", "Expect:", *options, f"http://127.0.0.1:{port}{path}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if pieces is None:
        process.stdin.close()
        found = digest_of(iter(lambda: process.stdout.read(MIB), b""))
    else:
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
        found = answer_of(process.stdout.read())
    if process.wait() != 0:
        raise OSError(f"curl ended with {process.returncode}")
    return found


def answer_of(text):
    """The digest and the length that the upstream says."""
    digest, _, count = text.decode().partition(" ")
    return digest, int(count)


def upload_by_curl(port, mib):
    return curl(port, "/", "-T", "-", pieces=blocks(mib))


def download_by_curl(port, mib):
    return curl(port, f"/chunked/{mib}")


def upload_by_python(port, mib):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("PUT", "/", body=blocks(mib), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    found = answer_of(connection.getresponse().read())
    connection.close()
    return found


def download_by_python(port, mib):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", f"/fixed/{mib}")
    answer = connection.getresponse()
    found = digest_of(iter(lambda: answer.read(MIB), b""))
    connection.close()
    return found


TRANSFERS = {
    "chunked upload by curl": upload_by_curl,
    "chunked download by curl": download_by_curl,
    "chunked upload by Python": upload_by_python,
    "fixed download by Python": download_by_python,
}


class Watch(threading.Thread):
    """Samples memory until it is told to stop."""

    def __init__(self, homing):
        super().__init__(daemon=True)
        self.homing, self.samples, self.stopped = homing, [homing.memory()["own"]], threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(SAMPLE_SECONDS):
            self.samples.append(self.homing.memory()["own"])

    def stop(self):
        self.stopped.set()
        self.join()
        return self.samples


def try_all(runtime, port, options, binary, work, owed):
    settings = {
        "listeners": [{"name": "web", "address": "127.0.0.1:0", "routes": [{"forward": {"cluster": "app"}}]}],
        "clusters": [{"name": "app", "hosts": [f"127.0.0.1:{port}"]}],
    }
    homing, well = Homing(f"homing-{runtime}", settings, work, runtime, binary), True
    try:
        for what, transfer in TRANSFERS.items():
            watch, began = Watch(homing), time.monotonic()
            try:
                found = transfer(homing.ports["web"], options.mib)
                failure = None if found == (owed, options.mib * MIB) else f"{found[1]} bytes of SHA-256 {found[0]}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
            took, samples = time.monotonic() - began, watch.stop()
            grown = max(samples) - samples[0]
            if failure is None and grown > GROWTH_KIB:
                failure = f"the memory grew by {grown} KiB: {samples[0]} to {max(samples)} KiB"
            well &= failure is None
            figures = failure or f"{took:.1f} s, {samples[0]} KiB before, at most {max(samples)} KiB of {len(samples)} samples"
            print(f"{'FAIL' if failure else 'PASS'} {runtime}: {what}, {options.mib} MiB: {figures}", flush=True)
        return homing.ends_well() and well
    finally:
        homing.kill()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    binary = find_homing(options.homing)
    server = Server(("127.0.0.1", 0), Upstream)
    upstream = multiprocessing.get_context("fork").Process(target=serve, args=(server,), daemon=True)
    upstream.start()
    port = server.server_address[1]
    server.server_close()
    work, (owed, _) = tempfile.mkdtemp(prefix="homing-transfers-"), digest_of(blocks(options.mib))
    print(f"SHA-256 of the body: {owed}")
    try:
        wells = [try_all(runtime, port, options, binary, work, owed) for runtime in options.runtimes.split(",")]
    finally:
        upstream.terminate()
        upstream.join()
        shutil.rmtree(work, ignore_errors=True)
    return 0 if all(wells) else 1


if __name__ == "__main__":
    guarded(main)
