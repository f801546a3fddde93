"""The bare forwarder on tokio."""

DESCRIPTION = "bare byte forwarder on tokio; not sticky"
TOKEN = "none"


def command(setup):
    return [setup.built("limit_tokio"), str(setup.port), *map(str, setup.upstreams)]
