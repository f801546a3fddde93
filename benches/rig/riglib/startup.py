"""The startup sub-command: how long it takes from the start of a process to its first answer."""

import os
import time

from . import fleet, system
from .bench import Bench, say
from .contender import START_SECONDS, START_TRIES, Contender, RigError, fetch
from .scenario import request_bytes

STARTUP = "startup"  # stands where records of loads have their scenario
PAUSE = 0.0005  # seconds between two tries to connect


def run_all(options, contender_names, sizes, record, skipped):
    """Starts everybody in turn, in rounds; hands each record to `record`."""
    names = [fleet.named(name, size) for size in sizes for name in contender_names] or contender_names
    os.sched_setaffinity(0, options.load_cpu)  # the one who waits must not take the proxy's CPU
    with Bench(options) as bench:
        for round_number in range(options.rounds):
            for name in [name for name in names if name not in skipped]:
                head = {"contender": name, "scenario": STARTUP, "round": round_number}
                try:
                    found = measure(Contender(name, bench.upstreams, bench.work, options))
                except RigError as error:
                    skipped[name] = str(error)
                    say(f"# skipped {name}: {error}")
                    continue
                record(head | found)
                say(f"startup round {round_number + 1} {name:28} {found['ms']:8.1f} ms  CPU {found['cpu_ms']:.1f} ms")


def measure(contender):
    """One start, repeated when the process ended, since somebody else may have taken its port."""
    for attempt in range(1, START_TRIES + 1):
        try:
            return first_answer(contender)
        except RigError:
            if attempt == START_TRIES or not contender.has_died():
                raise
        finally:
            contender.stop()


def first_answer(contender):
    """Milliseconds from before the fork to the last byte of the first head, and CPU time of the threads alive then."""
    contender.launch()
    while True:
        try:
            status = fetch(contender.port, request_bytes())[0]
        except OSError:
            status = None
        elapsed = time.monotonic() - contender.launched
        if status == 200:
            return {"ms": elapsed * 1e3, "cpu_ms": system.scheduled_seconds(contender.pids()) * 1e3}
        if contender.has_died():
            raise RigError(f"{contender.name} exited with {contender.process.returncode}; see {contender.log}")
        if elapsed > START_SECONDS:
            raise RigError(f"{contender.name} gave no 200 within {START_SECONDS} s; see {contender.log}")
        time.sleep(PAUSE)
