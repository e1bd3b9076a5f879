"""Guesses at the token: a few at once, then one every few seconds, for each address."""

import math
from collections import OrderedDict

import trio

AT_ONCE = 10  # somebody who mistypes, or a script with an old token
EVERY_S = 5.0  # then 17,000 guesses a day and address
MOST_ADDRESSES = 10_000  # that are remembered: 1 MB


class Throttle:
    """Counts failures by address; none of it outlives the process."""

    def __init__(self) -> None:
        self._earned_at_s: OrderedDict[str, float] = OrderedDict()  # when what was spent is earned again

    def wait_s(self, address: str) -> int:
        """Return for how many seconds an address has no guess left; 0: it has."""
        spent_s = self._earned_at_s.get(address, 0.0) - trio.current_time()
        return max(math.ceil(spent_s - (AT_ONCE - 1) * EVERY_S), 0)

    def failed(self, address: str) -> None:
        """Count a failure; the address that failed longest ago may be forgotten for it."""
        now_s = trio.current_time()
        self._earned_at_s[address] = max(self._earned_at_s.pop(address, now_s), now_s) + EVERY_S
        while len(self._earned_at_s) > MOST_ADDRESSES:
            self._earned_at_s.popitem(last=False)
