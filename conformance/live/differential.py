#!/usr/bin/env python3
"""Sends the same fresh, seeded random requests to the real Envoy and to Homing, and compares what they make of them.

    differential.py [--seed N] [--cases N] [--runtime monoio|mio|tokio] [--homing PROGRAM] [--only NUMBER] [-v]
                    [--bootstrap]: Homing is started with --envoy and Envoy's own configuration

Needs a release build (or --homing) and conformance/live/install.sh. 20,000 cases take about a minute.

Both stand in front of the same upstream hosts, configured from one description (world.py, cases.py). For each case are
compared: who decided (the token, the balancer, the proxy itself), the host if it was the token, the bytes of the token
that is written (its host must be the one that answered, its expiry within the second of the answer), the other lines
and the body of the answer, and what the host received. projection.py says what is left out; a row of DIVERGENCES.md
explains a difference only if it foretells both sides (rules.py). All of that must also be what README.md says.

How a decision is seen: cookies and headers are written unless the token was followed, and where nothing is written the
request is sent again: a rotation moves on, a token does not.

Envoy's four counters are compared too, request by request and in sum (counters.py).

Prints the seed, the differences by row, and the share of each outcome by the access log, whose lines must be as many as
the requests were and must agree with what was seen. A case that fails is cut down and written as a vector into
.cache/live. Exit status: 0 no unlisted difference, 1 some, or a share below 2 per cent; 2 it could not run.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import os
import tempfile
import time

import cases
import counters
import projection
import rules
import world
from rules import FREE, OWN, PINNED, PLACED, decoder

SHARE_MIN = 0.02
# With fewer cases than these, chance can take an outcome of 2.3 per cent below the bound.
SHARES_FROM = 20_000
FAILURES_SHOWN = 10


@dataclasses.dataclass
class Seen:
    """What one proxy made of a case."""

    answer: world.Answer
    decision: tuple  # a class of rules.py
    token: bytes | None  # what was written for the session, without what differs by nature
    lines: list
    flaw: str | None = None
    at: int = 0  # the number of the request among those of its listener
    counter: str | None = None  # Envoy's, for one such request


@dataclasses.dataclass
class Known:
    """What is known of a case's first request before the access log is read."""

    number: int
    decision: tuple
    counter: str | None  # Envoy's
    rows: dict = dataclasses.field(default_factory=dict)  # Homing's counter -> the row if it is another than Envoy's


class Side:
    """One proxy, with a connection to each listener."""

    def __init__(self, name, ports):
        self.name, self.clients = name, {listener: world.Client(port) for listener, port in ports.items()}
        self.sent = collections.Counter()
        self.first = {}  # (listener, number of the request) -> what is known of the case's first request
        self.counted = collections.Counter()  # what Envoy should have counted, by stat prefix and name

    def ask(self, case):
        self.sent[case.listener.name] += 1
        client = self.clients[case.listener.name]
        return client.ask(case.bytes(), case.method == b"HEAD")

    def see(self, case):
        answer = self.ask(case)
        seen = read(case, answer)
        seen.at = self.sent[case.listener.name]
        requests = 1
        if seen.decision is None:
            again = self.ask(case)
            steady = again.host == answer.host
            seen.decision = (PINNED, answer.host) if steady else (unpinned(case), None)
            requests = 2
        if self.name == "envoy":
            seen.counter = counters.of_envoy(case, seen)
            if seen.counter:
                self.counted[counters.stat_prefix(case), seen.counter] += requests
        return seen


def unpinned(case):
    """Nothing was written and the rotation moves: an envelope without a token, or no session at all."""
    policy = case.policy()
    return PLACED if policy is not None and policy.carrier == "envelope" else FREE


def read(case, answer):
    """Decision (None: not to be seen from one answer), token, lines."""
    policy = case.policy()
    if answer.host is None:
        return Seen(answer, (OWN, answer.status), None, projection.own_answer(answer.fields))
    lines = projection.lines(answer.fields)
    if policy is None:
        return Seen(answer, None, None, lines)
    host = answer.host.encode()
    if policy.carrier == "envelope":
        wrapped = [normal_value(policy, line, host) for line in lines]
        return Seen(answer, None, None, wrapped)
    written, rest = None, []
    for line in lines:
        token, flaw = written_token(case, policy, line, host, answer)
        if flaw:
            return Seen(answer, (PLACED, None), None, lines, flaw)
        if token is None:
            rest.append(line)
        elif written is not None:
            return Seen(answer, (PLACED, None), None, lines, "two tokens are written")
        else:
            written = token
    if written is None and len(case.listener.taken(case.target.decode("latin-1")).clusters) > 1:
        # A draw may lead elsewhere next time: here only a followed token leaves nothing written.
        return Seen(answer, (PINNED, answer.host), None, rest)
    return Seen(answer, (PLACED, None) if written else None, written, rest)


def normal_value(policy, line, host):
    name, value = line
    prefix = decoder.base64(host) + b";UV:"
    if name == policy.name.lower().encode() and value.startswith(prefix):
        return name, b"<host>;UV:" + value[len(prefix) :]
    return line


def written_token(case, policy, line, host, answer):
    """The line without its token if it is the session's own, and what is wrong with it."""
    name, value = line
    if policy.carrier == "header":
        if name != policy.name.lower().encode():
            return None, None
        if value == decoder.base64(host):
            return b"<token>", None
        told = [text.encode("latin-1") for known, text in case.behaviour.get("headers", []) if known == policy.name]
        return None, None if value in told else f"a token that is not of {host!r}: {value!r}"
    start = policy.name.encode() + b'="'
    if name != b"set-cookie" or not value.startswith(start):
        return None, None
    attributes = [(key.encode(), text.encode()) for key, text in policy.attributes]
    path = policy.path.encode()
    for now in range(answer.began, answer.ended + 1):
        if value == decoder.set_cookie(policy.name.encode(), host, now, policy.life, path, attributes):
            return b"<token>" + value[value.index(b'"', len(start)) :], None
    return None, f"a cookie that the page does not define: {value!r}"


# ---------------------------------------------------------------- comparison


def only_in(one, other):
    left = list(other)
    out = []
    for line in one:
        if line in left:
            left.remove(line)
        else:
            out.append(line)
    return out


def compare(case, envoy, homing, theirs, ours):
    """The rows that explain what differs, and the differences that none explains, as texts."""
    rows, unlisted = set(), []
    for name, seen, foreseen in (("Envoy", envoy, theirs), ("Homing", homing, ours)):
        if seen.flaw:
            unlisted.append(f"{name}: {seen.flaw}")
        if seen.decision not in foreseen.classes:
            expected = " or ".join(map(str, sorted(foreseen.classes, key=str)))
            unlisted.append(f"{name}: {seen.decision}, where the page says {expected}")
    if envoy.decision != homing.decision:
        found = rules.decision_rows(case, theirs, ours)
        rows.update(found)
        if not found:
            unlisted.append(f"decision: Envoy {envoy.decision}, Homing {homing.decision}")
    is_own = envoy.answer.host is None or homing.answer.host is None
    if is_own and envoy.decision != homing.decision:
        # Different answers, for which the rows above stand; a token beside a failure is another row.
        pairs = [("envoy", name, value) for name, value in envoy.lines if name == b"set-cookie"]
    else:
        if envoy.answer.status != homing.answer.status:
            unlisted.append(f"status: Envoy {envoy.answer.status}, Homing {homing.answer.status}")
        if envoy.token != homing.token and envoy.decision == homing.decision:
            unlisted.append(f"token: Envoy {envoy.token!r}, Homing {homing.token!r}")
        if not is_own and envoy.answer.body != homing.answer.body:
            unlisted.append(f"body: Envoy {envoy.answer.body!r}, Homing {homing.answer.body!r}")
        pairs = [("envoy", *line) for line in only_in(envoy.lines, homing.lines)]
        pairs += [("homing", *line) for line in only_in(homing.lines, envoy.lines)]
    for side, name, value in pairs:
        row = rules.line_row(case, side, name, value, is_own)
        rows.add(row) if row else unlisted.append(f"answer, {side} only: {name!r}: {value!r}")
    compare_requests(case, envoy.answer.saw, homing.answer.saw, rows, unlisted)
    return rows, unlisted


def compare_requests(case, envoy, homing, rows, unlisted):
    if envoy is None or homing is None:
        return
    for part, one, other in (("first line", envoy[0], homing[0]), ("body", envoy[2], homing[2])):
        if one != other:
            unlisted.append(f"the host saw another {part}: Envoy {one!r}, Homing {other!r}")
    one, other = projection.lines(envoy[1]), projection.lines(homing[1])
    for side, mine, others in (("envoy", one, other), ("homing", other, one)):
        for name, value in only_in(mine, others):
            row = rules.line_row(case, "request", name, value, False) if side == "envoy" else None
            policy = case.policy()
            if row is None and 5 in rows and policy and name == policy.name.lower().encode():
                row = 5
            rows.add(row) if row else unlisted.append(f"the host saw, {side} only: {name!r}: {value!r}")


# ---------------------------------------------------------------- cutting down, writing


def smaller(case):
    """Cases with one thing less."""
    for at in range(len(case.fields)):
        yield dataclasses.replace(case, fields=case.fields[:at] + case.fields[at + 1 :])
    for at, (name, value) in enumerate(case.fields):
        pieces = value.split(b";")
        for cut in range(len(pieces)) if len(pieces) > 1 else ():
            shorter = b";".join(pieces[:cut] + pieces[cut + 1 :]).strip()
            yield dataclasses.replace(case, fields=[*case.fields[:at], (name, shorter), *case.fields[at + 1 :]])
    if case.behaviour:
        yield dataclasses.replace(case, behaviour={})
        lines = case.behaviour.get("headers", [])
        for at in range(len(lines)):
            less = case.behaviour | {"headers": lines[:at] + lines[at + 1 :]}
            yield dataclasses.replace(case, behaviour=less)
    if case.body or case.method != b"GET":
        yield dataclasses.replace(case, method=b"GET", body=b"", is_chunked=False)


def cut_down(case, fails):
    """The smallest case found that still fails."""
    found = True
    while found:
        found = next((less for less in smaller(case) if fails(less)), None)
        case = found or case
    return case


def as_text(data):
    return data.decode("latin-1")


def vector(case, seed, envoy, unlisted, clusters):
    """The case in the format of ../README.md section 2, with Envoy's answer as what was observed."""
    policy = case.policy() or case.listener.session
    kind, state = policy.envoy_state()
    route = case.listener.taken(as_text(case.target))
    hosts = [address for name, _ in route.clusters for address in clusters[name].addresses()]
    answer = envoy.answer
    by = {PINNED: "token", PLACED: "lb", FREE: "lb", OWN: "none"}[envoy.decision[0]]
    lines = lambda fields: [[as_text(name), as_text(value)] for name, value in fields]
    observed = {
        "status": answer.status, "chosen_by": by, "upstream": answer.host,
        "response_headers": lines(line for line in answer.fields if line[0] != b"x-saw"), "body": as_text(answer.body),
    }
    if answer.saw:
        first, fields, body = answer.saw
        method, path, _ = as_text(first).split(" ")
        observed["upstream_saw"] = {"method": method, "path": path, "headers": lines(fields), "body": as_text(body)}
    request = {"method": as_text(case.method), "path": as_text(case.target), "headers": lines(case.fields)}
    if case.is_chunked:
        request["raw"] = as_text(case.bytes())
    elif case.body:
        request["body"] = as_text(case.body)
    return {
        "id": f"live-{seed}-{case.number}", "mode": policy.carrier, "note": "; ".join(unlisted),
        "listener": case.listener.name,
        "config": {"session_state": {"kind": kind, **state}, "strict": policy.strict,
                   "status_on_strict_destination_not_found": policy.gone},
        "hosts": hosts, "now": case.now, "request": request,
        "upstream_behaviour": case.behaviour, "observed": observed,
    }


# ---------------------------------------------------------------- the run


class Trial:
    """A worker's share of the cases: the listeners that are its own, one after the other."""

    def __init__(self, options, listeners, clusters, address, envoy_ports, homing_ports):
        self.options, self.listeners, self.address = options, listeners, address
        self.clusters = {cluster.name: cluster for cluster in clusters}
        self.envoy, self.homing = Side("envoy", envoy_ports), Side("homing", homing_ports)

    def judge(self, case):
        theirs = rules.foresee(case, self.clusters, self.address["dead"], True)
        ours = rules.foresee(case, self.clusters, self.address["dead"], False)
        envoy, homing = self.envoy.see(case), self.homing.see(case)
        rows, unlisted = compare(case, envoy, homing, theirs, ours)
        # What Homing counted is known when its log is read; what may be said of it then, is written down now.
        # Two different decisions can end in one status, such as 503 for a dead host and for one that hung up.
        differ = envoy.decision != homing.decision or theirs.reading != ours.reading
        decided = rules.decision_rows(case, theirs, ours) if differ else []
        known = Known(case.number, homing.decision, envoy.counter)
        for counter in (*counters.NAMES, None):
            known.rows[counter] = counters.row(case, decided, envoy.counter, counter) if case.policy() else None
        self.homing.first[case.listener.name, homing.at] = known
        return envoy, rows, unlisted

    def run(self, numbers):
        tally, failures = collections.Counter(), []
        for number in numbers:
            case = cases.case(self.options.seed, number, self.listeners, self.address)
            envoy, rows, unlisted = self.judge(case)
            tally.update(f"row {row}" for row in rows)
            tally["listed" if rows else "same"] += not unlisted
            if unlisted:
                tally["unlisted"] += 1
                if len(failures) < FAILURES_SHOWN:
                    failures.append(self.failure(case, envoy, unlisted))
        return tally, failures, self.homing.sent, self.homing.first, self.envoy.counted

    def failure(self, case, envoy, unlisted):
        again = self.judge(case)[2]
        if again:
            case = cut_down(case, lambda less: self.judge(less)[2])
            envoy, _, unlisted = self.judge(case)
        else:
            unlisted = [*unlisted, "not seen when sent again"]
        return vector(case, self.options.seed, envoy, unlisted, self.clusters)


def work(arguments):
    options, listeners, clusters, address, envoy_ports, homing_ports, numbers = arguments
    return Trial(options, listeners, clusters, address, envoy_ports, homing_ports).run(numbers)


def reasons_of(homing, sent, first):
    """The reason of each case's first request by the access log, what does not fit, and the counters of both."""
    counts, problems, tally = collections.Counter(), [], collections.Counter()
    seen, meaning = collections.Counter(), counters.table()
    with open(homing.access_log) as log:
        for line in log:
            entry = json.loads(line)
            seen[entry["listener"]] += 1
            known = first.get((entry["listener"], seen[entry["listener"]]))
            if known is None:
                continue
            counts[entry["reason"]] += 1
            if not agrees(entry["reason"], known.decision):
                problems.append(f"case {known.number}: the log says {entry['reason']}, seen was {known.decision}")
            counter = counters.of_line(meaning, entry)
            tally["Envoy", known.counter] += 1
            tally["Homing", counter] += 1
            if counter != known.counter:
                row = known.rows[counter]
                tally["row", row] += 1
                if row is None:
                    problems.append(f"case {known.number}: Envoy counts {known.counter}, Homing {counter}")
    if seen != sent:
        problems.append(f"the access log has {sum(seen.values())} lines for {sum(sent.values())} requests")
    return counts, problems, tally


def counted_otherwise(envoy, counted):
    """Where Envoy's counters are not the sums of what was foretold for each request."""
    found = counters.of_admin(envoy.get("/stats?filter=stateful_session"))
    names = sorted(set(found) | set(counted))
    return [
        f"Envoy counts {'.'.join(name)} {found.get(name, 0)} times, foretold were {counted[name]}"
        for name in names if found.get(name, 0) != counted[name]
    ]


def agrees(reason, decision):
    first = reason.split(".")[0]
    allowed = {
        PINNED: {"pinned"}, PLACED: {"placed", "moved"}, FREE: {"out_of_scope", "disabled"},
        OWN: {"refused", "pinned", "placed", "moved", "out_of_scope", "disabled", "unplaced"},
    }
    return first in allowed[decision[0]]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="by default the time")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--runtime", default="monoio")
    parser.add_argument("--bootstrap", action="store_true", help="Homing is given Envoy's configuration as it is")
    parser.add_argument("--homing", help="the program; by default target/release/homing")
    parser.add_argument("--envoy", help="the binary; by default that of .cache/venv")
    parser.add_argument("--only", type=int, help="this case alone")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-v", action="store_true", help="also print the vectors")
    return parser.parse_args()


def main():
    options = arguments()
    binary = world.find_homing(options.homing)
    source = ", from Envoy's bootstrap" if options.bootstrap else ""
    print(f"seed {options.seed}, {options.cases} cases, on {options.runtime}{source}", flush=True)
    with tempfile.TemporaryDirectory(prefix="homing-live-") as folder:
        hosts = world.Hosts()
        listeners, clusters = cases.settings(hosts.address)
        proxies = []
        try:
            proxies.append(world.Envoy(listeners, clusters, folder, options.envoy))
            source = {"from_bootstrap": options.bootstrap}
            proxies.append(world.Homing(listeners, clusters, folder, options.runtime, binary, **source))
            return trial(options, listeners, clusters, hosts, *proxies)
        finally:
            for proxy in proxies:
                proxy.stop()
            hosts.stop()


def trial(options, listeners, clusters, hosts, envoy, homing):
    began = time.monotonic()
    numbers = range(options.cases) if options.only is None else [options.only]
    # A listener's cases are all one worker's, in order: its rotations and its log lines are then nobody else's.
    shares = [[n for n in numbers if n % len(listeners) % options.workers == w] for w in range(options.workers)]
    jobs = [(options, listeners, clusters, hosts.address, envoy.ports, homing.ports, share) for share in shares]
    with multiprocessing.get_context("fork").Pool(options.workers, initializer=world.be_a_child) as pool:
        results = pool.map(work, jobs)
    tally, failures, sent, first = collections.Counter(), [], collections.Counter(), {}
    counted = collections.Counter()
    for tallied, failed, requests, known, of_envoy in results:
        tally.update(tallied)
        failures += failed
        sent.update(requests)
        first |= known
        counted.update(of_envoy)
    took = time.monotonic() - began
    problems = [f"{proxy.name} has ended" for proxy in (envoy, homing) if not proxy.is_alive()]
    if envoy.is_alive():
        problems += counted_otherwise(envoy, counted)
    if homing.stop() != 0:
        problems.append("Homing did not end well")
    reasons, misfits, counts = reasons_of(homing, sent, first)
    problems += misfits
    report(options, tally, reasons, took)
    report_counters(counts)
    problems += shares_too_small(options, reasons)
    # Each request of a case that was cut down says the same.
    problems = list(dict.fromkeys(problems))
    save(options, failures)
    for problem in problems[:FAILURES_SHOWN]:
        print(f"FAIL {problem}")
    print("FAIL" if tally["unlisted"] or problems else "PASS", f"differential on {options.runtime}: seed {options.seed},",
          f"{tally['unlisted']} unlisted differences in {sum(tally[key] for key in ('same', 'listed', 'unlisted'))} cases")
    return 1 if tally["unlisted"] or problems else 0


def report(options, tally, reasons, took):
    print(f"{tally['same']} cases the same, {tally['listed']} explained by the ledger, in {took:.0f} s")
    rows = sorted((int(key[4:]), count) for key, count in tally.items() if key.startswith("row "))
    print("  rows: " + ", ".join(f"{row}: {count}" for row, count in rows))
    total = sum(reasons.values()) or 1
    for reason, count in reasons.most_common():
        print(f"  {count / total:6.1%} {reason}")


def report_counters(counts):
    for name in counters.NAMES:
        print(f"  counter {name}: Envoy {counts['Envoy', name]}, Homing {counts['Homing', name]}")
    rows = sorted((row or 0, count) for (kind, row), count in counts.items() if kind == "row")
    print("  counted otherwise, by row: " + (", ".join(f"{row}: {count}" for row, count in rows) or "none"))


# The outcomes that the cases are about.
OUTCOMES = [
    "pinned", "placed.absent", "placed.malformed", "placed.expired", "placed.gone", "placed.barred", "refused.gone",
    "refused.barred", "refused.connect_failed", "moved.connect_failed", "out_of_scope", "disabled",
]


def shares_too_small(options, reasons):
    if options.cases < SHARES_FROM or options.only is not None:
        return []
    total = sum(reasons.values()) or 1
    low = [reason for reason in OUTCOMES if reasons[reason] / total < SHARE_MIN]
    return [f"less than {SHARE_MIN:.0%} of the cases came to: {', '.join(low)}"] if low else []


def save(options, failures):
    folder = os.path.join(world.ROOT, ".cache", "live")
    for failure in failures[:FAILURES_SHOWN]:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, failure["id"] + ".json")
        with open(path, "w") as file:
            file.write(json.dumps(failure) + "\n")
        print(f"FAIL {failure['listener']}, case {failure['id'].rsplit('-')[-1]}: {failure['note']}")
        print(f"     {os.path.relpath(path, world.ROOT)}")
        if options.v:
            print(json.dumps(failure, indent=1))


if __name__ == "__main__":
    world.guarded(main)
