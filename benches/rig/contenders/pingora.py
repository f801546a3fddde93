"""Pingora, as a small sticky proxy of ours (see pingora/). Optional: build.sh --pingora."""

DESCRIPTION = "Pingora, 1 thread, a small sticky-cookie proxy (optional, see build.sh)"
TOKEN = "cookie"


def command(setup):
    return [setup.built("pingora_sticky"), str(setup.port), *map(str, setup.upstreams)]
