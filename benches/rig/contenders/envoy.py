"""Envoy with its stateful session filter, everything per request turned off that can be."""

import json
import os

DESCRIPTION = "Envoy, 1 worker, stateful session cookie; no stats, request ids or extra headers"
TOKEN = "cookie"

TYPES = "type.googleapis.com/envoy.extensions."
MANY = 50000


def command(setup):
    arguments = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [binary(setup), "-c", setup.write("envoy.json", json.dumps(bootstrap(setup), indent=1)), *arguments]


def binary(setup):
    """--envoy, or the program inside the Python package that install.sh brought (its wrapper would cost a process)."""
    from riglib.contender import REPOSITORY, RigError

    path = setup.options.envoy or os.path.join(REPOSITORY, ".cache", "envoy", "envoy")
    if not os.path.exists(path):
        raise RigError("Envoy is not installed; run benches/rig/install.sh, or give --envoy PATH")
    return path


def bootstrap(setup):
    return {
        "stats_config": {"stats_matcher": {"reject_all": True}},
        "layered_runtime": {
            "layers": [{"name": "rig", "static_layer": {"overload.global_downstream_max_connections": MANY}}]
        },
        "static_resources": {"listeners": [listener(setup)], "clusters": [cluster(setup)]},
    }


def listener(setup):
    manager = {
        "@type": TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "rig",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "skip_xff_append": True,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstreams", "timeout": "0s"}}],
            }]
        },
        "http_filters": [session_filter(), router()],
    }
    return {
        "address": address(setup.port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def session_filter():
    cookie = {
        "@type": TYPES + "http.stateful_session.cookie.v3.CookieBasedSessionState",
        "cookie": {"name": "SRV", "path": "/", "ttl": "3600s"},
    }
    return {
        "name": "envoy.filters.http.stateful_session",
        "typed_config": {
            "@type": TYPES + "filters.http.stateful_session.v3.StatefulSession",
            "session_state": {"name": "envoy.http.stateful_session.cookie", "typed_config": cookie},
        },
    }


def router():
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": TYPES + "filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
            "dynamic_stats": False,
        },
    }


def cluster(setup):
    hosts = [{"endpoint": {"address": address(port)}} for port in setup.upstreams]
    return {
        "name": "upstreams",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [{"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY}]
        },
        "load_assignment": {"cluster_name": "upstreams", "endpoints": [{"lb_endpoints": hosts}]},
    }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
