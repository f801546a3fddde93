#!/bin/sh
# Counts the instructions of benches/benches/instructions.rs and compares them with benches/budgets.txt.
#   benches/check-budgets.sh             fails when a count is above its budget by more than 3 %, or has none
#   benches/check-budgets.sh --update    writes today's counts as the budgets; say in the commit why they moved
# Needs valgrind and python3. Installs gungraun-runner into .cache/ when the right version is not there.
set -eu
cd "$(dirname "$0")/.."
budgets=benches/budgets.txt
counts=.cache/instructions.json

# Library and runner must be of one version; Cargo.lock says which.
version=$(sed -n '/^name = "gungraun-runner"$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)
runner=${GUNGRAUN_RUNNER:-$(command -v gungraun-runner || echo "$PWD/.cache/gungraun/bin/gungraun-runner")}
if [ "$("$runner" --version 2>/dev/null)" != "gungraun-runner $version" ]; then
    runner=$PWD/.cache/gungraun/bin/gungraun-runner
    cargo install --quiet --locked --version "$version" --root .cache/gungraun gungraun-runner
fi

mkdir -p .cache
GUNGRAUN_RUNNER=$runner cargo bench --quiet --package homing-benches --bench instructions -- --output-format=json >"$counts"

python3 - "$budgets" "$counts" "${1:-}" <<'PYTHON'
import json
import sys

TOLERANCE = 1.03
budgets_path, counts_path, mode = sys.argv[1:]

counts = {}
with open(counts_path) as file:
    for bench in map(json.loads, file):
        callgrind = next(profile for profile in bench["profiles"] if profile["tool"] == "Callgrind")
        instructions = callgrind["data"]["total"]["metrics"]["Ir"]["values"]["new"]
        counts[f"{bench['function_name']}/{bench['id']}"] = instructions

with open(budgets_path) as file:
    lines = file.read().splitlines()
comments = [line for line in lines if line.startswith("#")]
budgets = {name: int(count) for name, count in (line.split() for line in lines if line and line not in comments)}

if mode == "--update":
    rows = [f"{name:40} {count:8}" for name, count in counts.items()]
    with open(budgets_path, "w") as file:
        file.write("\n".join(comments + rows) + "\n")
    print(f"{budgets_path}: {len(rows)} budgets written")
    sys.exit(0)

faults = [f"{name} has a budget but is not measured any more; remove its line" for name in budgets if name not in counts]
if not counts:
    faults.append("nothing was measured")
for name, count in counts.items():
    budget = budgets.get(name)
    if budget is None:
        faults.append(f"{name} takes {count} instructions and has no budget; add it with --update")
        continue
    print(f"{name:40} {count:8} of {budget:8} {count / budget:7.3f}")
    if count > budget * TOLERANCE:
        faults.append(f"{name} takes {count} instructions, more than {TOLERANCE} times its budget of {budget}")
    elif count * TOLERANCE < budget:
        print("    below its budget: lower it with --update, so that the gain is kept")
for fault in faults:
    print(f"check-budgets: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
PYTHON
