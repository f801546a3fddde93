#!/bin/sh
# Installs what the scripts in conformance need: for clients/ a Chromium, and Python packages in .cache/venv of the
# repository; for matrix/ nginx and HAProxy. Running it again installs only what is missing. Needs Debian or Ubuntu for
# the browser and the proxies, and python3 with venv; CHROMIUM=/path/to/chrome uses a browser that is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv="$root/.cache/venv"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

if [ -n "${CHROMIUM:-}" ]; then
    [ -x "$CHROMIUM" ] || { echo "install.sh: CHROMIUM=$CHROMIUM is not a program" >&2; exit 1; }
elif command -v chromium >/dev/null; then
    :
elif command -v apt-get >/dev/null; then
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium
else
    echo "install.sh: no chromium and no apt-get; install Chromium or Chrome and set CHROMIUM to its path" >&2
    exit 1
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python3 -m venv --clear "$venv"
fi
if ! "$venv/bin/python" -c 'import requests, websockets.sync.client' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'websockets>=15,<17' 'requests>=2.32,<3'
fi
if ! "$venv/bin/python" -c 'import mcp.client.sse' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'mcp>=1.23,<2'
fi

PATH=$PATH:/usr/sbin
for proxy in nginx haproxy; do
    command -v "$proxy" >/dev/null && continue
    if ! command -v apt-get >/dev/null; then
        echo "install.sh: no $proxy and no apt-get; install $proxy" >&2
        exit 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$proxy"
done

"${CHROMIUM:-chromium}" --version
nginx -v
haproxy -v | head -n 1
"$venv/bin/python" -c 'import requests, websockets; print("websockets", websockets.__version__, "requests", requests.__version__)'
