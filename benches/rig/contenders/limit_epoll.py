"""The bare forwarder in C on epoll."""

DESCRIPTION = "bare byte forwarder in C on epoll; not sticky"
TOKEN = "none"


def command(setup):
    return [setup.built("limit_epoll"), str(setup.port), *map(str, setup.upstreams)]
