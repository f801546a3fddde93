"""The bare forwarder on mio."""

DESCRIPTION = "bare byte forwarder on mio; not sticky"
TOKEN = "none"


def command(setup):
    return [setup.built("limit_mio"), str(setup.port), *map(str, setup.upstreams)]
