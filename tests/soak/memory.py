"""The resident memory of processes over time, as the kernel tells it (Linux: /proc)."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

QUARTERS = 4
MIB = 1024 * 1024


@dataclass
class Memory:
    """Samples of each of several processes, or groups of them, over one span of time.

    Args:
        span_s: The whole time, which is divided into quarters.
    """

    span_s: float
    _samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def note(self, who: str, at_s: float, pid: int) -> None:
        """Take one sample of a process, so many seconds after the start; one that has just ended has none."""
        resident = memory_of(pid).get("VmRSS")
        if resident is not None:
            self._samples.setdefault(who, []).append((at_s, resident))

    def last(self) -> dict[str, float]:
        """Return the latest sample of each, in MiB."""
        return {who: samples[-1][1] / MIB for who, samples in self._samples.items()}

    def quarters(self) -> dict[str, list[float]]:
        """Return the medians of each, in MiB: one for each quarter of the time (NaN: no sample was taken in it)."""
        return {
            who: [self._median(samples, number) for number in range(QUARTERS)] for who, samples in self._samples.items()
        }

    def _median(self, samples: list[tuple[float, int]], quarter: int) -> float:
        last = QUARTERS - 1  # what came late belongs to it
        within = [resident for at_s, resident in samples if min(int(QUARTERS * at_s / self.span_s), last) == quarter]
        return median(within) / MIB if within else float("nan")


def memory_of(pid: int) -> dict[str, int]:
    """Return `VmRSS` (now) and `VmHWM` (its peak) of a process, in bytes; nothing if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM") if name in found}
