"""The gates' port: whether a channel takes an alert now. All processes of a deployment share what it knows."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

LONGEST_LIMIT_S = 3600.0  # a service that names a longer one is asked again after this
ROW = 10  # failures of different alerts without an acceptance in between open a breaker,
ROW_LASTS_S = 2.0  # if they span so long: by then every process that had an acceptance has reported it
PROBE_EVERY_S = 30.0  # without doubling: a receiver that is back is found within this
PROBE_SLACK_S = 5.0  # a probe keeps others away for as long as its attempt may last, and so much: it is reported

Why = Literal["rate", "limit", "breaker", "queue", "workers", "unanswered"]


class Rate(Struct, frozen=True):
    """How many alerts a channel takes: `per_s` a second in the long run, and at most `burst` at once."""

    per_s: float
    burst: int = 1


class Closed(Struct, frozen=True):
    """No alert may be sent now.

    Args:
        why: Its `rate` is used up, the service named a `limit`, its `breaker` is open, something as severe is in its
            `queue`, its sends hold too many `workers`, or the gate is `unanswered`.
        for_s: After how many seconds it is worth asking again.
    """

    why: Why
    for_s: float


class Admitted(Struct, frozen=True):
    """One alert may be sent now; if there is a rate, a token of it is spent.

    Args:
        probe: Its breaker is open, and this is the alert that tries the channel.
    """

    probe: bool = False


class News(Struct, frozen=True):
    """What one process saw of a channel since it said so last.

    Args:
        accepted: The receiver took or refused an alert: it is there, and what failed before counts no more.
        failed: The record IDs of attempts that failed after that, in a row; more than `ROW` say no more.
        attempts: How many attempts failed.
        reason: What the last one of them was answered with.
        stopped: That answer is the service's own word that nothing will be taken: its breaker opens at once.
        limited_s: For how long the service wants nothing; 0 if it said no such thing.
    """

    accepted: bool = False
    failed: Sequence[str] = ()
    attempts: int = 0
    reason: str = ""
    stopped: bool = False
    limited_s: float = 0.0


class GateView(Struct, frozen=True):
    """A channel's gate as all processes see it.

    Args:
        row: How many different alerts failed since the last acceptance, at most `ROW`.
        failing_s: For how long, and `attempts` how often; both are 0 if nothing failed since.
        open_s: For how long its breaker has been open; None: it is not.
        limited_s: For how long the service still wants nothing.
        reason: What the last failed attempt was answered with.
        changed: The news that were just taken in opened or closed the breaker; no other process is told so.
    """

    row: int = 0
    failing_s: float = 0.0
    attempts: int = 0
    open_s: float | None = None
    limited_s: float = 0.0
    reason: str = ""
    changed: bool = False


class Gates(Protocol):
    """The gates of the channels, a state each that all processes share.

    Losing it opens every gate: what was closed for a reason is soon closed again. Times are the server's, and a clock
    that is set keeps no gate closed for longer than it would have been.
    """

    async def ask(
        self, channel: str, rate: Rate | None = None, *, probe: bool = False, again: bool = False
    ) -> Closed | Admitted:
        """Ask to send one alert now.

        Args:
            channel: Its name; all names of one channel share a gate.
            rate: How many it takes, if that is bounded.
            probe: If its breaker is open, this is the one alert that tries the channel: nobody else may send one within
                `PROBE_EVERY_S`, nor while its attempt may last.
            again: This alert was let in before and not sent: the token that was spent for it is put back first. Only
                within the time that earns one: after it, somebody else may have had it.
        """

    async def exchange(self, news: Mapping[str, News], channels: Sequence[str]) -> dict[str, GateView]:
        """Report what happened to some channels, and return how all of these stand now. One command."""
