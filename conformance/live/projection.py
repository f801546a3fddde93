"""What is compared, for bytes that are seen live: the rules of ../src/projection.rs, which numbers them and is the place
that says what they are. A change belongs there first.
"""

OWN = {b"content-type", b"content-length", b"server", b"allow", b"grpc-status", b"grpc-message"}
# Rule 2; and what only the tests themselves put in.
LEFT_OUT = {b"date", b"connection", b"x-vec-id", b"x-be", b"x-saw", b"x-case"}


def is_uuid(value):
    return len(value) == 36 and all(byte in b"0123456789abcdef-" for byte in value)


def lines(fields):
    """The field lines that count, sorted by name; the order among one name stays."""
    out, accept = [], []
    for name, value in fields:
        name, value = name.lower(), value.strip()
        if name in LEFT_OUT or name.startswith(b"x-envoy-"):
            continue
        if name == b"accept":
            accept.append(value)
            continue
        if name == b"x-request-id" and is_uuid(value):
            value = b"<uuid>"
        out.append((name, value))
    if accept:
        out.append((b"accept", b",".join(accept)))
    return sorted(out, key=lambda line: line[0])


def own_answer(fields):
    """The lines that count in an answer of the proxy's own."""
    return [line for line in lines(fields) if line[0] not in OWN]
