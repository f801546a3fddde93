"""The bare forwarder on monoio, SINGLE_ISSUER and DEFER_TASKRUN."""

DESCRIPTION = "bare byte forwarder on monoio, SINGLE_ISSUER and DEFER_TASKRUN; not sticky"
TOKEN = "none"


def command(setup):
    return [setup.built("limit_monoio"), str(setup.port), *map(str, setup.upstreams)]
