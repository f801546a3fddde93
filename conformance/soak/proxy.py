"""A running Homing, and what the kernel says of it: what the scripts of this directory share."""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from guard import guarded

ROOT = Path(__file__).resolve().parent.parent.parent
RUNTIMES = ("monoio", "mio", "tokio")
# For a person's sake only: a program that does not start or end fails the run instead of stopping it.
PATIENCE_SECONDS = 30


def arguments(doc):
    """A parser with what every script takes; `doc` is the script's own."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--homing", help="the program, by default target/release/homing")
    return parser


def find_homing(path=None):
    path = path or os.path.join(ROOT, "target/release/homing")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is not there; cargo build --release, or name one with --homing")
    return path


def descriptor_limit():
    """The most descriptors a process may hold, after raising the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Homing:
    """One process; `ports` by the listener's name. `settings` is the configuration file as a value: JSON is YAML."""

    def __init__(self, name, settings, work, runtime, binary, workers=1):
        self.name, self.runtime = name, runtime
        self.path = os.path.join(work, f"{name}.yaml")
        self.log = os.path.join(work, f"{name}.log")
        self.access_log = os.path.join(work, f"{name}-access.log")
        self.write(settings)
        command = [binary, "run", self.path, "--runtime", runtime, "--workers", str(workers)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid
        ready = self.wait_for("homing is ready")
        self.ports = {each: int(port) for each, port in re.findall(r"([\w-]+) on 127\.0\.0\.1:(\d+)", ready)}

    def at_rest(self):
        """The descriptors that are open once their number stays the same for a while: a worker that has just been started
        may not have opened all of its own."""
        seen = [self.descriptors()]
        while len(seen) < 5 or len(set(seen[-5:])) > 1:
            time.sleep(0.1)
            seen.append(self.descriptors())
        return seen[-1]

    def write(self, settings):
        """Puts a configuration in place, whole or not at all."""
        with open(self.path + ".new", "w") as file:
            json.dump({"accessLog": {"to": self.access_log}, **settings}, file, indent=1)
        os.replace(self.path + ".new", self.path)

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def wait_for(self, text):
        """The first line that holds the text."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.said().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line
            time.sleep(0.02)
        self.process.kill()
        raise SystemExit(f"{self.name} did not say \"{text}\":\n{self.said()[-3000:]}")

    def is_alive(self):
        return self.process.poll() is None

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        """Drains, and returns the exit status."""
        if self.is_alive():
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def ends_well(self):
        """Drains, and says so if that goes wrong."""
        status = self.stop()
        if status != 0:
            print(f"FAIL {self.runtime}: exit status {status}")
        return status == 0

    def kill(self):
        """Sees to it that nothing is left behind."""
        if self.is_alive():
            self.process.kill()

    # ---------------------------------------------------------------- what the kernel says

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self):
        """In KiB: `rss`, the resident set; `pss`, the same with shared pages by their share; `own`, what is not of a file:
        heap and stacks. The first two change when pages of the program's file are read or dropped, the second also
        when another process of the same program starts or ends."""
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            found = dict(re.findall(r"^(Rss|Pss|Anonymous): +(\d+) kB", file.read(), re.M))
        return {"rss": int(found["Rss"]), "pss": int(found["Pss"]), "own": int(found["Anonymous"])}

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Tail:
    """Follows a file that grows by lines."""

    def __init__(self, path):
        self.path, self.file, self.rest = path, None, b""

    def lines(self):
        """The whole lines that have come since the last call."""
        if self.file is None:
            try:
                self.file = open(self.path, "rb")
            except FileNotFoundError:
                return []
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        return lines
