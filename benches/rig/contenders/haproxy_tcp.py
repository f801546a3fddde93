"""HAProxy as a TCP forwarder: what the same program costs when it reads no HTTP."""

DESCRIPTION = "HAProxy in TCP mode, 1 thread; not sticky"
TOKEN = "none"


def command(setup):
    servers = "\n".join(f"    server s{n} 127.0.0.1:{port}" for n, port in enumerate(setup.upstreams))
    configuration = f"""
global
    nbthread 1
    maxconn 9500

defaults
    mode tcp
    timeout connect 5s
    timeout client 5m
    timeout server 5m

listen proxy
    bind 127.0.0.1:{setup.port}
    balance roundrobin
{servers}
"""
    return [setup.installed("haproxy"), "-f", setup.write("haproxy.cfg", configuration)]
