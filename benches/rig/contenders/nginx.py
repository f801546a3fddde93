"""nginx: the cookie names an upstream group of one; a session without one is given round robin's choice."""

import os

DESCRIPTION = "nginx, 1 worker, cookie mapped to an upstream, set when absent, keep-alive upstreams"
TOKEN = "cookie"

KEEPALIVE = "keepalive 512; keepalive_requests 1000000000; keepalive_timeout 5m; keepalive_time 24h;"


def command(setup):
    conf = setup.write("nginx.conf", configuration(setup))
    return [setup.installed("nginx"), "-p", setup.directory, "-e", setup.path("error.log"), "-c", conf]


def configuration(setup):
    servers = {f"s{n}": f"127.0.0.1:{port}" for n, port in enumerate(setup.upstreams)}
    groups = "\n".join(f"    upstream {name} {{ server {address}; {KEEPALIVE} }}" for name, address in servers.items())
    everyone = " ".join(f"server {address};" for address in servers.values())
    return f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {setup.path("nginx.pid")};
error_log {setup.path("error.log")} crit;
events {{ use epoll; worker_connections 20000; multi_accept on; accept_mutex off; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 5m;
    keepalive_requests 1000000000;
    keepalive_time 24h;
    proxy_max_temp_file_size 0;
    {temporary_paths(setup)}
    upstream anyone {{ {everyone} {KEEPALIVE} }}
{groups}
    map $cookie_SRV $group {{ default anyone; {" ".join(f"{name} {name};" for name in servers)} }}
    map $upstream_addr $home {{ {" ".join(f"{address} {name};" for name, address in servers.items())} }}
    map $cookie_SRV $issued {{ default "SRV=$home; Path=/"; {" ".join(f'{name} "";' for name in servers)} }}
    server {{
        listen 127.0.0.1:{setup.port} backlog=4096;
        location / {{
            proxy_pass http://$group;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            add_header Set-Cookie $issued;
        }}
    }}
}}
"""


def temporary_paths(setup):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {setup.path(kind)};" for kind in kinds)
