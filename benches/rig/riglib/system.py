"""Processes, pinning and /proc."""

import ctypes
import os
import resource
import signal
import socket
import subprocess

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def raise_file_limit():
    """Thousands of connections need as many descriptors; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_set(text):
    """The CPUs in a comma-separated list."""
    return frozenset(map(int, text.split(",")))


def spawn(argv, cpus, **options):
    """Starts a process pinned to these CPUs, in a process group of its own, that ends when this one does."""

    def prepare():
        os.sched_setaffinity(0, cpus)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(argv, preexec_fn=prepare, start_new_session=True, **options)


def stop(process, patience=1.5):
    """Ends a process from spawn() and what it started: politely, then for good."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)  # the group is its own, see spawn()
    except ProcessLookupError:
        pass
    process.wait()


def free_port():
    """A loopback port that the kernel says is free. Someone may take it first, so callers retry."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid):
    """The process and all its descendants."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        try:
            for thread in os.listdir(f"/proc/{found[-1]}/task"):
                with open(f"/proc/{found[-1]}/task/{thread}/children") as children:
                    todo += map(int, children.read().split())
        except FileNotFoundError:
            pass  # it ended meanwhile
    return found


def cpu_seconds(pids):
    """User and system time that living processes have taken so far."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return ticks / CLOCK_TICKS


def scheduled_seconds(pids):
    """CPU time of living threads by the scheduler's own count: fine enough for a few milliseconds."""
    nanoseconds = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
                    nanoseconds += int(stat.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return nanoseconds / 1e9


def machine_cpu_seconds():
    """CPU time that all processes have taken since boot, and time the hypervisor withheld."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / CLOCK_TICKS, steal / CLOCK_TICKS


def memory_kib(pids):
    """Resident and proportional set size, in KiB."""
    sizes = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                for words in map(str.split, rollup):
                    if words[0] in sizes:
                        sizes[words[0]] += int(words[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return {"rss_kib": sizes["Rss:"], "pss_kib": sizes["Pss:"]}


def tcp_segments_sent():
    """TCP segments the whole machine has sent since boot."""
    with open("/proc/net/snmp") as snmp:
        names, values = (line.split() for line in snmp if line.startswith("Tcp:"))
    return int(values[names.index("OutSegs")])


class ForeignCpu:
    """Tells how much CPU others took meanwhile: `with ForeignCpu(pids) as foreign: …; foreign.cores`.

    `pids` are the long-lived processes of ours; short-lived children count once they were waited for.
    """

    def __init__(self, pids):
        self.pids = pids

    def __enter__(self):
        self.before = self._now()
        return self

    def __exit__(self, *_):
        wall, machine, steal, own = (after - before for after, before in zip(self._now(), self.before))
        self.cores = max(0.0, machine - own) / wall
        self.steal = steal / wall

    def _now(self):
        times = os.times()
        own = sum(times[:4]) + cpu_seconds(self.pids)
        return (times.elapsed, *machine_cpu_seconds(), own)
