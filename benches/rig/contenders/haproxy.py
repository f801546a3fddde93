"""HAProxy."""

from riglib import fleet

VARIANTS = {
    "": "HAProxy, 1 thread, cookie insert indirect, http-reuse always",
    "notag": "as haproxy, without the memory-pool debugging that Debian's build turns on",
    "splice": "as haproxy, with splice for response bodies",
    **fleet.variants("as haproxy"),
}
TOKEN = "cookie"

MAXCONN = 9500
MAXCONN_SPLICE = 6000  # its pipes count against the file limit


def command(setup):
    flags = ["-dMno-tag,no-poison"] if setup.variant == "notag" else []
    return [setup.installed("haproxy"), *flags, "-f", setup.write("haproxy.cfg", configuration(setup))]


def configuration(setup):
    splice = setup.variant == "splice"
    size = fleet.size_of(setup.variant) or len(setup.upstreams)
    # Without weight a server keeps its sessions and gets no new ones.
    servers = "\n".join(
        f"    server s{n} {address} cookie s{n}{'' if used else ' weight 0'}"
        for n, (address, used) in enumerate(fleet.hosts(setup.upstreams, size))
    )
    return f"""
global
    nbthread 1
    maxconn {MAXCONN_SPLICE if splice else MAXCONN}

defaults
    mode http
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    timeout http-keep-alive 5m
    http-reuse always
    {"option splice-response" if splice else ""}

listen proxy
    bind 127.0.0.1:{setup.port}
    balance roundrobin
    cookie SRV insert indirect nocache
{servers}
"""
