"""The arithmetic of a run: what was measured becomes figures. Pure, no I/O."""

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed (nearest rank).

    Args:
        ordered: At least one value, ascending.
        share: Such as 0.99.
    """
    rank = math.ceil(share * len(ordered) - 1e-9)  # 0.07 * 100 is a little more than 7
    return ordered[max(rank, 1) - 1]


def steady_rate(arrivals_s: Sequence[float], workers: int) -> float:
    """Return requests per second while the backlog lasted: without its first and its last round of workers.

    Workers that wait equally long go in rounds: a count from one round's first request to another's first is exact,
    any other is wrong by up to a round. That is why both ends are cut at a multiple of the workers.

    Args:
        arrivals_s: When requests arrived, ascending; at least three rounds of workers.
        workers: How many requests make a round.
    """
    first, last = workers, (len(arrivals_s) // workers - 1) * workers
    if last <= first:
        raise ValueError(f"{len(arrivals_s)} requests are fewer than three rounds of {workers} workers")
    return (last - first) / (arrivals_s[last] - arrivals_s[first])


def ideal_rate(workers: int, busy_s: float, offered: float | None) -> float:
    """Return the rate that no program can exceed: what the workers can wait for, or what is offered.

    Args:
        workers: Of all processes together.
        busy_s: How long one alert keeps a worker waiting for receivers, in seconds, on average.
        offered: Alerts per second; None: there is a backlog.
    """
    capacity = workers / busy_s
    return capacity if offered is None else min(capacity, offered)


def per_worker_kib(few: tuple[int, int], many: tuple[int, int]) -> float:
    """Return what one more waiting worker takes, in KiB.

    Args:
        few: Workers, and the peak memory in bytes of the process that had them.
        many: The same for a process with more of them.
    """
    return (many[1] - few[1]) / (many[0] - few[0]) / 1024


def excess(arrivals_s: Sequence[float], rate: float) -> float:
    """Return by how many requests the most crowded stretch of time exceeds a rate: its burst, if it was kept to.

    Args:
        arrivals_s: When requests arrived, ascending; at least one.
        rate: Requests a second.
    """
    most, fewest = -math.inf, math.inf  # of what lies above the line of the rate, up to here and before
    for number, arrived_s in enumerate(arrivals_s):
        fewest = min(fewest, number - rate * arrived_s)
        most = max(most, number + 1 - rate * arrived_s - fewest)
    return most


def overtaken(urgent: Sequence[tuple[float, float]], others_s: Sequence[float], grace_s: float) -> int:
    """Return how many of the others arrived while something urgent had been waiting.

    Args:
        urgent: When each was due, and when it arrived.
        others_s: When the others arrived.
        grace_s: How long something urgent may be on its way before it counts as waiting.
    """
    return sum(any(due_s + grace_s < other_s < arrived_s for due_s, arrived_s in urgent) for other_s in others_s)
