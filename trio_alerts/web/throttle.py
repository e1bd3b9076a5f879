"""Wrong tokens: a few are answered at once, then one every few seconds, for each address."""

from collections import OrderedDict

import trio

AT_ONCE = 10  # somebody who mistypes, or a script with an old token
EVERY_S = 5.0
MOST_ADDRESSES = 10_000  # that are remembered: 1 MB


class Throttle:
    """Counts failures by address; none of it outlives the process."""

    def __init__(self) -> None:
        self._earned_at_s: OrderedDict[str, float] = OrderedDict()  # when what was spent is earned again

    def failed(self, address: str) -> float:
        """Count a failure, and return for how many seconds its answer is to be held back: 10 at most.

        More than `EVERY_S`: others of that address are held back already. The address that failed longest ago may be
        forgotten for it.
        """
        now_s = trio.current_time()
        spent_s = max(self._earned_at_s.pop(address, now_s) - now_s, 0.0)
        self._earned_at_s[address] = now_s + min(spent_s + EVERY_S, (AT_ONCE + 1) * EVERY_S)
        while len(self._earned_at_s) > MOST_ADDRESSES:
            self._earned_at_s.popitem(last=False)
        return max(spent_s - (AT_ONCE - 1) * EVERY_S, 0.0)
