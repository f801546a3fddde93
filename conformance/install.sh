#!/bin/sh
# Installs what the scripts in conformance need: for clients/ a Chromium, slowhttptest, Node, and packages for Python and
# Node in .cache of the repository; for matrix/ nginx and HAProxy. Running it again installs only what is missing. Needs
# Debian or Ubuntu for the programs, and python3 with venv; CHROMIUM=/path/to/chrome uses a browser that is there already.
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
if ! "$venv/bin/python" -c 'import aiohttp, httpx, requests, websockets.sync.client' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        'websockets>=15,<17' 'requests>=2.32,<3' 'httpx>=0.28,<1' 'aiohttp>=3.11,<4'
fi
if ! "$venv/bin/python" -c 'import mcp.client.sse' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'mcp>=1.23,<2'
fi

# Debian's packages of these names; npm also stands for Node, which its package brings.
PATH=$PATH:/usr/sbin
for program in nginx haproxy slowhttptest npm; do
    command -v "$program" >/dev/null && continue
    if ! command -v apt-get >/dev/null; then
        echo "install.sh: no $program and no apt-get; install $program" >&2
        exit 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$program"
done

node_home="$root/.cache/node"
if ! node -e 'const { createRequire } = require("node:module"); const find = createRequire(process.argv[1] + "/");
    for (const name of ["socket.io", "socket.io-client", "undici", "tough-cookie"]) find.resolve(name)' "$node_home" 2>/dev/null; then
    mkdir -p "$node_home"
    npm install --silent --no-audit --no-fund --prefix "$node_home" \
        'socket.io@^4.8' 'socket.io-client@^4.8' 'undici@^6' 'tough-cookie@^5'
fi

"${CHROMIUM:-chromium}" --version
nginx -v
haproxy -v | head -n 1
"$venv/bin/pip" --disable-pip-version-check list 2>/dev/null | grep -E '^(aiohttp|httpx|requests|websockets) '
echo "node $(node --version)"
npm ls --prefix "$node_home" --depth 0 2>/dev/null | tail -n +2
