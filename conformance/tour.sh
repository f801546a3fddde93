#!/usr/bin/env bash
# The README's tour, pasted by a script and checked: its shell blocks run as they stand, with real curl and its jar.
#
#   conformance/tour.sh RUNTIME [-v]      RUNTIME: mio, tokio, monoio or auto; -v shows what the blocks print
#
# The block under `<!-- tour: NAME -->` in README.md is the step NAME. Only ports are replaced, by free ones. A browser,
# WebSockets and MCP follow (conformance/install.sh brings what they need). HOMING names the program to try, by default
# target/release/homing. Prints a line PASS or FAIL per check; exit status 1 if one failed, 2 if it could not run.
set -euo pipefail

if [ "${1:-}" != "--bounded" ]; then
    # A proxy that hangs fails the tour instead of stopping it; the whole process group goes with it.
    exec timeout --kill-after=10 300 "$0" --bounded "$@"
fi
shift

root=$(cd "$(dirname "$0")/.." && pwd)
runtime=${1:-}
verbose=${2:-}
program=$(realpath -m "${HOMING:-$root/target/release/homing}")
python=$root/.cache/venv/bin/python
case $runtime in
    auto | mio | tokio | monoio) ;;
    *) echo "usage: conformance/tour.sh mio|tokio|monoio|auto [-v]" >&2; exit 2 ;;
esac
[ -x "$program" ] || { echo "tour.sh: $program is not there; cargo build --release, or set HOMING" >&2; exit 2; }
[ -x "$python" ] || { echo "tour.sh: the clients are not installed; run conformance/install.sh" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/homing-tour-XXXXXX")
children=()
failures=0
checks=0

leave() {
    for child in "${children[@]}"; do
        kill -KILL "$child" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 2' INT TERM

# The blocks are written for the root of the repository with a release build.
mkdir -p "$work/target/release"
ln -s "$program" "$work/target/release/homing"
ln -s "$root/docs" "$work/docs"
cd "$work"

# ---- parts -------------------------------------------------------------------------------------------------------

# check DESCRIPTION COMMAND…: runs a command that judges.
check() {
    local what=$1
    shift
    checks=$((checks + 1))
    if "$@"; then
        echo "PASS $runtime: $what"
    else
        echo "FAIL $runtime: $what"
        failures=$((failures + 1))
        if [ -s "$work/step.out" ]; then sed 's/^/     | /' "$work/step.out"; fi
    fi
}

# wait_for TEXT FILE PID: until the text is in the file. Fails when the process has ended, or 20 s have passed, without.
wait_for() {
    local looks=1000
    until grep -q -- "$1" "$2" 2>/dev/null; do
        looks=$((looks - 1))
        if [ "$looks" = 0 ] || ! kill -0 "$3" 2>/dev/null; then
            echo "tour.sh: the program did not say \"$1\":" >&2
            cat "${2%.out}.err" >&2 || true
            return 1
        fi
        sleep 0.02
    done
}

# block NAME: the README's block, with the ports of this run.
block() {
    awk -v mark="<!-- tour: $1 -->" '
        $0 == mark { found = 1; next }
        found && /^```sh$/ { inside = 1; next }
        inside && /^```$/ { exit }
        inside { print }
    ' "$root/README.md" | sed \
        -e "s/localhost:8080/localhost:${cookie_port:-0}/g" -e "s/localhost:8081/localhost:${header_port:-0}/g" \
        -e "s/127\.0\.0\.1:9001/127.0.0.1:${one_port:-0}/g" -e "s/127\.0\.0\.1:9002/127.0.0.1:${two_port:-0}/g" \
        -e "s/localhost:8082/localhost:${file_port:-0}/g" -e "s/localhost:8083/localhost:${flags_port:-0}/g" \
        -e "s/127\.0\.0\.1:808[23]/127.0.0.1:0/g"
}

# step NAME: pastes the block; what it prints is in step.out.
step() {
    block "$1" >"$work/step.sh"
    if [ ! -s "$work/step.sh" ]; then
        echo "tour.sh: README.md has no block \"$1\"" >&2
        exit 2
    fi
    if ! bash -eu "$work/step.sh" 2>&1 </dev/null | tr -d '\r' >"$work/step.out"; then
        echo "tour.sh: the block \"$1\" failed" >>"$work/step.out"
    fi
    if [ "$verbose" = -v ]; then cat "$work/step.out"; fi
}

has() { grep -qE -- "$1" "$work/step.out"; }
has_not() { ! has "$1"; }
counts() { [ "$(grep -cE -- "$1" "$work/step.out")" = "$2" ]; }

# start NAME COMMAND…: a program in the background, its output in NAME.out and NAME.err; its id is in $started.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    started=$!
    children+=("$started")
}

# start_block NAME: a block that runs until it is stopped. `exec` makes the shell the program.
start_block() {
    block "$1" | sed -e '/^target/s/^/exec /' -e "s/ run / run --runtime $runtime /" >"$work/$1.sh"
    start "$1" bash -eu "$work/$1.sh"
    wait_for "homing is ready" "$work/$1.err" "$started"
}

start_demo() {
    start demo "$program" demo --cookie-port 0 --header-port 0 --upstream-ports 0,0 --runtime "$runtime" "$@"
    demo=$started
    wait_for "running on" "$work/demo.out" "$demo"
    cookie_port=$(sed -n 's|^  http://127.0.0.1:\([0-9]*\) .*cookie.*|\1|p' "$work/demo.out")
    header_port=$(sed -n 's|^  http://127.0.0.1:\([0-9]*\) .*header.*|\1|p' "$work/demo.out")
    # Each instance says where it is by the token it gives.
    one_port='' two_port=''
    while [ -z "$one_port" ] || [ -z "$two_port" ]; do
        local answer port
        answer=$(curl -si "localhost:$header_port/headers" | tr -d '\r')
        port=$(sed -n 's/^x-session-id: //p' <<<"$answer" | base64 -d | sed 's/.*://')
        case $answer in
            *"x-instance: one"*) one_port=$port ;;
            *"x-instance: two"*) two_port=$port ;;
            *) echo "tour.sh: the demo answers: $answer" >&2; exit 1 ;;
        esac
    done
}

# stop PID: Ctrl-C, then the exit status.
stop() {
    kill -INT "$1"
    wait "$1"
}

# reason TEXT: an access log line with this reason comes to the demo's output.
logged() {
    wait_for "\"reason\":\"$1\"" "$work/demo.out" "$demo"
}

alternates() {
    local previous='' instance
    for _ in $(seq 20); do
        instance=$(curl -si "localhost:$1/headers" | grep '^x-instance')
        [ "$instance" != "$previous" ] || return 1
        previous=$instance
    done
}

# ---- the tour ----------------------------------------------------------------------------------------------------

start_demo
case $runtime in auto) named='(monoio|mio)' ;; *) named=$runtime ;; esac
check "the demo says that it runs on $runtime" grep -qE "^running on $named" "$work/demo.out"

step header-first
check "the first answer of a header session is 200" has '^HTTP/1.1 200 OK'
check "it carries one token" counts '^x-session-id: [A-Za-z0-9+/]+=*$' 1
step header-session
check "the token is the base64 of an instance's ip:port" has "^127\.0\.0\.1:($one_port|$two_port)\$"
check "20 requests with the token reach one instance" counts '^ *20 x-instance: (one|two)$' 1
check "20 requests without it take turns" counts '^ *10 x-instance: (one|two)$' 2
check "requests without a token alternate" alternates "$header_port"

step cookie-first
check "the first answer of a cookie session sets the cookie" \
    counts '^set-cookie: statefulsessioncookie="[A-Za-z0-9+/]+=*"; Max-Age=60; Path=/; HttpOnly$' 1
step cookie-session
check "20 requests with the jar reach one instance" counts '^ *20 x-instance: (one|two)$' 1
check "and get no new cookie" has_not 'set-cookie'
check "requests without a cookie alternate" alternates "$cookie_port"
check "the log has the reason pinned" logged pinned
check "the log has the reason placed.absent" logged placed.absent

step token-decode
check "the published sample is read: its address" has '^address: +10\.0\.43\.175:8080$'
check "the published sample is read: uptime, expired" has '^verdict: +expired: .*seconds of uptime'
step token-encode
check "a minted cookie is good" has '^verdict: +good'
check "a minted cookie leads to its host" has '^x-instance: two$'
check "a minted header token is the base64 of the address" \
    has "^$(printf '127.0.0.1:%s' "$two_port" | base64 | sed 's/[+]/\\&/g')\$"

step check
check "check says what would run" has '^cluster app \(2 hosts\)'
start_block run
file=$started
file_port=$(sed -n 's/.*listeners="\{0,1\}web on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/run.err")
check "the start-up line names the runtime" grep -qE "homing is ready.* runtime=\"?$named" "$work/run.err"
step run-session
check "with a file: the cookie is set" counts '^set-cookie: sid="[A-Za-z0-9+/]+=*"; Max-Age=3600; Path=/; HttpOnly$' 1
check "with a file: 20 requests reach one instance" counts '^ *20 x-instance: (one|two)$' 1
check "with a file: SIGINT ends it well" stop "$file"

start_block flags
flags=$started
flags_port=$(sed -n 's/.*listeners="\{0,1\}[a-z0-9-]* on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/flags.err")
step strict
check "strict: a host that is there is reached, one that is not is refused" \
    [ "$(tr '\n' ';' <"$work/step.out")" = "HTTP/1.1 200 OK;HTTP/1.1 503 Service Unavailable;" ]
kill -TERM "$flags"
check "without a file: SIGTERM ends it well" wait "$flags"

step gloo
check "a document of Gloo is taken as it is" has 'session in cookie statefulsessioncookie for 1m'
step envoy
check "a bootstrap of Envoy's is taken as it is" has 'session in header x-session-id, strict \(410 when gone\)'

check "a browser stays" "$python" "$root/conformance/clients/browser.py" "$cookie_port"
check "WebSockets stay, by cookie" "$python" "$root/conformance/clients/websocket.py" "$cookie_port"
check "WebSockets stay, by header" \
    "$python" "$root/conformance/clients/websocket.py" "$header_port" --header x-session-id
check "sessions of MCP over event streams stay" \
    "$python" "$root/conformance/clients/mcp_sessions.py" "$program" --runtime "$runtime"
check "the demo ends well" stop "$demo"

# The same block against a demo whose cookies live for a second: nobody waits for a minute.
start_demo --ttl 1s
step cookie-expired
check "an expired cookie gets a fresh session" has '^HTTP/1.1 200 OK'
check "and a new cookie" counts '^set-cookie: statefulsessioncookie=' 1
check "the log has the reason placed.expired" logged placed.expired
check "the second demo ends well" stop "$demo"

echo "tour.sh: $((checks - failures)) of $checks checks passed on $runtime"
[ "$failures" = 0 ]
