"""What README.md and DIVERGENCES.md say that each proxy does with a case, and which rows say why the two differ.

The page is read by ../decoder.py, which knows both ways of reading (section 1.8). A difference between the proxies is
listed only if a row below foretells what *both* do; whatever else differs fails.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import decoder

PINNED, PLACED, FREE, OWN = "pinned", "placed", "free", "own"


class Foreseen:
    """What is expected of one proxy. `classes` are pairs: PINNED and the host, OWN and the status, else a name and
    None. More than one where a draw decides."""

    def __init__(self, reading, classes, inner=None):
        self.reading, self.classes, self.inner = reading, classes, inner


def readings(case, policy, envoy):
    """What the request's token says, and an envelope's inner value."""
    name = policy.name.encode()
    if policy.carrier == "cookie":
        lines = case.values("cookie")
        return decoder.find_cookie(lines, name, case.now, envoy), None
    if policy.carrier == "header":
        return decoder.find_header(case.values(policy.name), envoy), None
    return decoder.find_envelope(case.values(policy.name), envoy)


def is_in_scope(case, policy):
    if policy is None:
        return False
    return policy.carrier != "cookie" or decoder.in_scope(policy.path.encode(), case.target)


def foresee(case, clusters, dead, envoy):
    policy = case.policy()
    if not is_in_scope(case, policy):
        return Foreseen(decoder.NONE, end(case, {(FREE, None)}, None, envoy))
    reading, inner = readings(case, policy, envoy)
    route = case.listener.taken(case.target.decode("latin-1"))
    reached = [clusters[name] for name, _ in route.clusters]
    if not isinstance(reading, bytes):
        return Foreseen(reading, end(case, {(PLACED, None)}, inner, envoy), inner)
    address = reading.decode("latin-1")
    allowed = [cluster.allows(address) for cluster in reached]
    found = [answer for answer in allowed if answer is not None]
    # Row 9: Envoy draws the cluster first, and the token counts only there.
    drawn = allowed if envoy else (found[:1] or [None])
    classes = set()
    for answer in drawn:
        if answer:
            classes |= pinned(address, dead, policy.strict, envoy)
        elif not policy.strict:
            classes.add((PLACED, None))
        else:
            classes.add((OWN, policy.gone if answer is None else 503))
    return Foreseen(reading, end(case, classes, inner, envoy), inner)


def pinned(address, dead, strict, envoy):
    if address != dead:
        return {(PINNED, address)}
    # Row 7: nothing was sent, and a soft session moves on.
    return {(OWN, 503)} if envoy or strict else {(PLACED, None)}


def end(case, classes, inner, envoy):
    """What becomes of a decision when the host's part fails."""
    if envoy and inner is not None and any(byte in b"\r\n\0" for byte in inner):
        # Row 5: what was unwrapped cannot be sent.
        status = 503
    elif case.behaviour.get("raw") == "":
        # Row 30: the host closes before it answers.
        status = 503 if envoy else 502
    else:
        return classes
    return {kept if kept[0] == OWN else (OWN, status) for kept in classes}


# ---------------------------------------------------------------- rows


def first_value(case, policy):
    if policy.carrier == "cookie":
        found = list(decoder.cookie_values(case.values("cookie"), policy.name.encode()))
    else:
        found = [line.strip(b" \t") for line in case.values(policy.name)]
    return found[0] if found else b""


def row_1(case, theirs, ours):
    """The first usable cookie of the name counts."""
    policy = case.policy()
    several = policy is not None and policy.carrier == "cookie"
    several = several and len(list(decoder.cookie_values(case.values("cookie"), policy.name.encode()))) > 1
    return several and theirs.reading != ours.reading and ours.reading != decoder.UNUSABLE


def row_2(case, theirs, ours):
    """An ip:port text is recognised before the message parser."""
    return isinstance(ours.reading, bytes) and decoder.is_socket(ours.reading) and theirs.reading == decoder.NONE


def row_3(case, theirs, ours):
    """Bytes that are neither a message nor an address are malformed."""
    return ours.reading == decoder.UNUSABLE and isinstance(theirs.reading, bytes)


def row_4(case, theirs, ours):
    """A session value has at most 512 bytes, its address at most 128."""
    policy = case.policy()
    long = policy is not None and len(first_value(case, policy)) > decoder.VALUE_MAX
    return isinstance(theirs.reading, bytes) and (long or len(theirs.reading) > decoder.ADDRESS_MAX)


def row_5(case, theirs, ours):
    """An envelope whose value cannot be a field value is no envelope."""
    return theirs.inner is not None and ours.inner is None


def row_7(case, theirs, ours):
    """A soft session moves on when its host refuses the connection."""
    return (OWN, 503) in theirs.classes and (PLACED, None) in ours.classes and theirs.reading == ours.reading


def row_9(case, theirs, ours):
    """Weighted routes keep their sessions."""
    route = case.listener.taken(case.target.decode("latin-1"))
    return len(route.clusters) > 1 and isinstance(theirs.reading, bytes)


def row_30(case, theirs, ours):
    """An upstream that closes before it answers is a 502."""
    return case.behaviour.get("raw") == ""


ROWS = {1: row_1, 2: row_2, 3: row_3, 4: row_4, 5: row_5, 7: row_7, 9: row_9, 30: row_30}


def decision_rows(case, theirs, ours):
    """The rows that explain why the two decide differently."""
    return [number for number, rule in ROWS.items() if rule(case, theirs, ours)]


def line_row(case, side, name, value, is_own):
    """The row that explains a line which only one side has."""
    if side == "request" and (name, value) == (b"content-length", b"0"):
        return 35
    if side == "envoy" and is_own:
        policy = case.policy()
        is_token = policy is not None and name in (b"set-cookie", policy.name.lower().encode())
        return 6 if is_token else None
    return None
