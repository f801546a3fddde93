#!/usr/bin/env python3
"""A test of the differential: it must find each of five bugs that the feature `planted` lets into the core.

    cargo build -p homing --features planted
    conformance/live/planted.py [--cases 5000] [--seed N] [--homing PROGRAM]

The bugs are in core/src/planted.rs. Each run must fail on an unlisted difference; the run without a bug must pass, or
the program itself would be what is found. Exit status: 0 all found, 1 not, 2 it could not run.
"""

import argparse
import os
import re
import subprocess
import sys
import time

import world

BUGS = {
    1: "the expiry is unsigned", 2: "the first of two addresses counts", 3: "an address need not be UTF-8",
    4: "/app holds /appx", 5: "barred is answered like gone",
}


def run(options, number):
    """The differential's exit status, and the first difference that it shows."""
    command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "differential.py"),
               "--homing", options.homing, "--seed", str(options.seed), "--cases", str(options.cases),
               "--runtime", options.runtime]
    environment = os.environ | {"HOMING_PLANTED": str(number)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    shown = re.search(r"^FAIL (.*, case \d+: .*)$", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1):
        raise SystemExit(f"planted.py: the differential did not run:\n{done.stdout}{done.stderr}")
    return done.returncode, shown and shown[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--runtime", default="mio")
    parser.add_argument("--homing", default=os.path.join(world.ROOT, "target/debug/homing"))
    options = parser.parse_args()
    world.find_homing(options.homing)
    print(f"seed {options.seed}, {options.cases} cases each", flush=True)
    status, shown = run(options, 0)
    failures = status != 0
    print("FAIL" if status else "PASS", "without a bug nothing is found", shown or "", flush=True)
    for number, what in BUGS.items():
        status, shown = run(options, number)
        found = status == 1 and shown is not None
        failures += not found
        print("PASS" if found else "FAIL", f"bug {number}, {what}:", shown or "not found", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    world.guarded(main)
