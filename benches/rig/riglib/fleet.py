"""Clusters of many hosts: the backend's ports, and fillers that a proxy must know and never use.

Fillers get no new sessions and no token names them, so that every request goes to the backend. What is measured is
what it costs to know them.
"""

from .contender import RigError

SIZES = (3, 100, 10_000, 100_000)


def variants(what):
    """Entries for a contender's VARIANTS. `what` describes it without its hosts."""
    return {f"hosts={size}": f"{what}, {size:,} hosts of which the backend's get requests" for size in SIZES}


def named(name, size):
    """The variant of a contender that has so many hosts."""
    return f"{name}{'+' if '@' in name else '@'}hosts={size}"


def size_of(variant):
    """The number of hosts that a variant is to have; None when it does not say."""
    for part in variant.split("+"):
        key, _, value = part.partition("=")
        if key == "hosts":
            return int(value)
    return None


def hosts(upstreams, size):
    """The addresses of a cluster, each with whether it is the backend's. Those are spread from the first to the last
    place, so that a proxy that searches is not spared the search."""
    if size < len(upstreams):
        raise RigError(f"{size} hosts cannot hold {len(upstreams)} upstreams; choose fewer with --upstreams")
    last = max(1, len(upstreams) - 1)
    places = {n * (size - 1) // last: port for n, port in enumerate(upstreams)}
    for place in range(size):
        if place in places:
            yield f"127.0.0.1:{places[place]}", True
        else:
            # Loopback too, with the port of the discard service: were one used after all, nothing would leave.
            yield f"127.{128 + (place >> 16)}.{place >> 8 & 255}.{place & 255}:9", False
