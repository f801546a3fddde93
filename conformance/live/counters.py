"""Envoy's four counters, for both sides of the differential.

*Homing's* follow from its access log, by the table in ../README.md section 2.1, which is read here and which
../src/vectors/counters.rs holds to the core. *Envoy's* are read from its admin endpoint; beside that, each request's is
foretold from its answer, and the sums must be equal. So is known what Envoy counted for a single request, and where
that is not what Homing's line counts, a row of the ledger must say why.
"""

import os
import re

import rules
from rules import OWN, PLACED

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
NAMES = ("routed", "failed_open", "failed_closed", "no_session")
# The body of Envoy's refusal when no host could be chosen: `no healthy upstream`.
UNHEALTHY = b"19"


def table(page=README):
    """Reason and strictness to the counter, from the page."""
    with open(page) as file:
        text = file.read().split("<!-- counters -->")[1].split("<!-- /counters -->")[0]
    found = {}
    for reason, soft, strict in re.findall(r"^\| `([a-z_.]+)` \| ([a-z_`]+) \| ([a-z_`]+) \|", text, re.MULTILINE):
        found[reason, False], found[reason, True] = (
            None if name == "none" else name.strip("`") for name in (soft, strict)
        )
    return found


def of_line(counters, line):
    """What a line of Homing's access log counts. Out of scope it counts only if a host was chosen."""
    if line["reason"] == "out_of_scope" and not line["upstream"]:
        return None
    return counters[line["reason"], line["strict"]]


def of_envoy(case, seen):
    """What Envoy counts for a request, by what it answered."""
    policy = case.policy()
    if policy is None:
        return None
    is_own = seen.decision[0] == OWN
    if is_own and seen.answer.values(b"content-length") == [UNHEALTHY]:
        return "failed_closed" if policy.strict else None
    if not rules.is_in_scope(case, policy):
        return "no_session"
    if has_changed(case, policy, seen, is_own):
        return None if policy.strict else "failed_open"
    return "routed"


def has_changed(case, policy, seen, is_own):
    """Whether a token was written for another host than the request's."""
    name = policy.name.lower().encode()
    if policy.carrier == "envelope":
        wrapped = [value for value in seen.answer.values(name) if b";UV:" in value]
        return len(wrapped) == 1 and not is_own and seen.decision[0] == PLACED
    if is_own:
        return bool(seen.answer.values(b"set-cookie" if policy.carrier == "cookie" else name))
    return seen.decision[0] == PLACED


def stat_prefix(case):
    """Where Envoy counts a request."""
    route = case.listener.taken(case.target.decode("latin-1"))
    return case.listener.stat_prefix(route)


def row(case, rows, envoy, homing):
    """The row that explains different counters; None: there is none. `rows`: those that explain another decision."""
    policy = case.policy()
    placed = None if policy.strict else "failed_open"
    if policy.carrier == "envelope" and (envoy, homing) == ("routed", placed):
        return 12
    if policy.strict and not rows and (envoy, homing) == ("routed", "failed_closed"):
        return 13
    return min(rows, default=None)


def of_admin(text):
    """By the last two parts of the name: the policy's own prefix and the counter."""
    found = re.findall(r"^\S*stateful_session\.([^.\s]+)\.(\w+): (\d+)$", text, re.MULTILINE)
    return {(prefix, name): int(count) for prefix, name, count in found if name in NAMES and int(count)}
