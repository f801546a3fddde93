#!/usr/bin/env python3
"""Runs decoder.py on every vector about tokens, twice: as the page defines reading, against what Homing does (the lists
in vectors/), and as Envoy reads, against what Envoy was seen to do. Then it writes every token that Envoy wrote.

usage: check_decoder.py        (Python's standard library only; exits with 1 on any disagreement)
"""

import json
import os
import re
import sys

import decoder

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN_MODES = ("cookie", "header", "envelope")


def bytes_of(text) -> bytes:
    if isinstance(text, dict):
        return b"".join(part.encode("latin-1") * times for part, times in text["runs"])
    return text.encode("latin-1")


def listed(name):
    with open(os.path.join(HERE, "vectors", name + ".txt"), encoding="utf-8") as file:
        entries = (line.rstrip("\n").split("\t") for line in file)
        return {entry[0]: entry[1:] for entry in entries}


def lines_of(vector, name: str) -> list[bytes]:
    headers = vector["request"]["headers"]
    return [bytes_of(value) for key, value in headers if key.lower() == name.lower()]


def read(vector, envoy: bool):
    """What the token says; None: the request is out of scope."""
    state = vector["config"]["session_state"]
    if state["kind"].startswith("Cookie"):
        cookie = state["cookie"]
        if not decoder.in_scope(cookie.get("path", "").encode(), bytes_of(vector["request"]["path"])):
            return None
        return decoder.find_cookie(lines_of(vector, "cookie"), cookie["name"].encode(), vector["now"], envoy)
    if state["kind"].startswith("Header"):
        return decoder.find_header(lines_of(vector, state["name"]), envoy)
    result, value = decoder.find_envelope(lines_of(vector, state["header"]["name"]), envoy)
    return result if value is not None else decoder.NONE


def predicted(vector, result) -> str:
    """Who chooses the host."""
    if not isinstance(result, bytes):
        return "lb"
    if result.decode("latin-1") in vector["hosts"]:
        return "token"
    return "none" if vector["config"]["strict"] else "lb"


def recorded(vector) -> str | None:
    """Who chose the host in Envoy; None: the vector does not tell."""
    chosen, status = vector["observed"]["chosen_by"], vector["observed"]["status"]
    if chosen == "single-host" and status == 200:
        return None
    return chosen if chosen in ("token", "lb", "none") else None


def homings(behaviour) -> str:
    """Who chooses the host in Homing, by what divergence.txt says."""
    if "refused.gone" in behaviour:
        return "none"
    return "token" if " pinned" in behaviour else "lb"


def about_reading(vector) -> bool:
    """Whether the token alone decides: no raw bytes, no other filter settings, no upgrade, no answer of HTTP's own."""
    if vector["mode"] not in TOKEN_MODES or "session_state" not in vector["config"]:
        return False
    request, observed = vector["request"], vector["observed"]
    raw = "raw" in request or "raw_segments" in request or "protocol" in request
    refused = observed["status"] in (400, 403, 404) and "status_on_strict_destination_not_found" not in vector["config"]
    unusual = set(vector["config"]) & {"hcm", "filters_before", "virtual_hosts"}
    return not (raw or refused or unusual or vector["id"].startswith("fail-"))


def check_reading(vectors):
    same, divergence = listed("same"), listed("divergence")
    counts = {"homing": 0, "envoy": 0}
    wrong = []
    for vector in filter(about_reading, vectors):
        expected = recorded(vector)
        if expected is None:
            continue
        _, behaviour = divergence.get(vector["id"], ["", ""])
        if behaviour == "refused":
            continue  # Homing does not load this configuration
        if not (vector["observed"]["log"]["flags"] == "DPE" and not vector["observed"]["upstream"]):
            envoy = predicted(vector, read(vector, True))
            counts["envoy"] += 1
            if envoy != expected:
                wrong.append(f"{vector['id']} as Envoy: {envoy}, recorded {expected}")
        if vector["id"] in same or vector["id"] in divergence:
            if vector["id"] in divergence:
                expected = homings(behaviour)
            homing = predicted(vector, read(vector, False))
            counts["homing"] += 1
            if homing != expected:
                wrong.append(f"{vector['id']} as defined: {homing}, Homing {expected}")
    return counts, wrong


def check_unwrapping(vectors):
    """What the upstream saw of an envelope."""
    count, wrong = 0, []
    for vector in vectors:
        saw = vector["observed"].get("upstream_saw")
        if vector["mode"] != "envelope" or not about_reading(vector) or not saw:
            continue
        name = vector["config"]["session_state"]["header"]["name"].lower()
        if name != "x-env":
            continue
        sent = lines_of(vector, name)
        value = decoder.find_envelope(sent, True)[1]
        expected = sent if value is None else [value]
        seen = [bytes_of(value) for key, value in saw["headers"] if key == name]
        count += 1
        if [line.strip(b" ") for line in seen] != [line.strip(b" ") for line in expected]:
            wrong.append(f"{vector['id']}: upstream saw {seen}, expected {expected}")
    return count, wrong


def check_writing(vectors):
    """Every Set-Cookie, header and envelope that Envoy wrote."""
    count, wrong = 0, []
    for vector in vectors:
        observed, state = vector["observed"], vector["config"].get("session_state")
        answered = vector["mode"] in TOKEN_MODES and state and observed.get("upstream")
        if not answered or "protocol" in vector["request"]:
            continue
        host = observed["upstream"].encode()
        if state["kind"].startswith("Cookie") and observed["set_cookie"]:
            cookie = state["cookie"]
            life = int(float(cookie.get("ttl", "0s")[:-1]))
            expires = observed["set_cookie_token"]["expires_offset_from_now"]
            now = vector["now"] + (expires - life if expires is not None else 0)
            listed_attributes = cookie.get("attributes", [])
            attributes = [(one["name"].encode(), one.get("value", "").encode()) for one in listed_attributes]
            name, path = cookie["name"].encode(), cookie.get("path", "").encode()
            written = decoder.set_cookie(name, host, now, life, path, attributes)
            expected = bytes_of(observed["set_cookie"])
        elif state["kind"].startswith("Envelope") and isinstance(observed["response_header"], str):
            name = state["header"]["name"].lower()
            answered = vector.get("upstream_behaviour", {}).get("headers", [])
            sent = [bytes_of(value) for key, value in answered if key.lower() == name]
            if len(sent) != 1:
                continue
            written, expected = decoder.write_envelope(host, sent[0].strip(b" \t")), bytes_of(observed["response_header"])
        else:
            continue
        count += 1
        if written != expected:
            wrong.append(f"{vector['id']}: wrote {written!r}, Envoy {expected!r}")
    return count, wrong


def check_examples():
    """The page's five examples: the text in each block must be base64 of the bytes in it."""
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
        section = file.read().split("### 1.9")[1].split("\n##")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.S)
    wrong = [] if len(blocks) == 5 else [f"{len(blocks)} examples, not five"]
    for number, block in enumerate(blocks, 1):
        runs = re.findall(r"(?:\b[0-9a-f]{2}\b ?){6,}", block)
        parts = [bytes.fromhex(run) for run in runs]
        texts = [decoder.base64(b"".join(parts))] if number < 5 else [decoder.base64(part) for part in parts]
        for text in texts:
            if text.decode() not in block:
                wrong.append(f"example {number}: its bytes are {text.decode()}")
    return len(blocks), wrong


def main() -> int:
    with open(os.path.join(HERE, "vectors", "vectors.jsonl"), encoding="utf-8") as file:
        vectors = [json.loads(line) for line in file]
    counts, wrong = check_reading(vectors)
    for name, (count, found) in {
        "unwrapped": check_unwrapping(vectors),
        "written": check_writing(vectors),
        "examples": check_examples(),
    }.items():
        counts[name] = count
        wrong += found
    for line in wrong:
        print(line)
    print(", ".join(f"{name}: {count}" for name, count in counts.items()), f"- {len(wrong)} wrong")
    # Fewer than these would mean that vectors are left out silently.
    enough = all(counts[name] >= least for name, least in LEAST.items())
    return 1 if wrong or not enough else 0


LEAST = {"homing": 1600, "envoy": 1600, "unwrapped": 100, "written": 700, "examples": 5}

if __name__ == "__main__":
    sys.exit(main())
