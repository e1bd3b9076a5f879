"""What processes cost, as the kernel counts it (Linux: /proc)."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PEAK = "VmHWM:"


@dataclass(frozen=True)
class Usage:
    """CPU time since the start of each process, in seconds, and the sum of their peaks of resident memory in bytes."""

    cpu_s: float
    peak_bytes: int


def usage_of(pids: Iterable[int]) -> Usage:
    """Add up processes and all their descendants; children that have ended and were waited for count as well."""
    cpu_s, peak_bytes = 0.0, 0
    for pid in pids:
        for one in _family(pid):
            cpu_s += _cpu_s(one)
            peak_bytes += _peak_bytes(one)
    return Usage(cpu_s, peak_bytes)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    # The name of the program, in brackets, may contain anything. Behind it: state is field 3, utime field 14, then
    # stime, and both of children that were waited for.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) * 1024
    return 0
