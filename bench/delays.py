"""How long a receiver takes to answer."""

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

Distribution = Literal["fixed", "exponential", "heavy"]

SPREAD = 1.5  # of the heavy tail, a log-normal: half answer within a third of the mean, 1 in 100 takes 10 times it
CAP = 30.0  # times the mean: no single answer may decide how long a run takes


@dataclass(frozen=True)
class Delay:
    """A distribution of answer times.

    Args:
        kind: `fixed`; `exponential`; `heavy`, a log-normal.
        mean_s: Its mean, in seconds.
    """

    kind: Distribution
    mean_s: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.mean_s:g}"

    @property
    def longest_s(self) -> float:
        """No answer takes longer."""
        return self.mean_s if self.kind == "fixed" else CAP * self.mean_s

    def draw(self, random: Random) -> float:
        """Return one answer time in seconds."""
        if self.kind == "fixed":
            return self.mean_s
        if self.kind == "exponential":
            drawn_s = random.expovariate(1 / self.mean_s)
        else:
            drawn_s = self.mean_s * math.exp(random.gauss(-(SPREAD**2) / 2, SPREAD))
        return min(drawn_s, self.longest_s)


def parse_delay(text: str) -> Delay:
    """Read `KIND:SECONDS`, such as `exponential:0.1`.

    Raises:
        ValueError: It is nothing of that form.
    """
    name, _, seconds = text.partition(":")
    kinds: dict[str, Distribution] = {"fixed": "fixed", "exponential": "exponential", "heavy": "heavy"}
    mean_s = float(seconds)
    if name not in kinds or not mean_s > 0:
        raise ValueError(f"not a delay: {text!r}; give fixed:S, exponential:S or heavy:S, with S > 0 seconds")
    return Delay(kinds[name], mean_s)
