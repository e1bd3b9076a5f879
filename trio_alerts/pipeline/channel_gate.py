"""A channel's gate in one process: what it knows of the channel, and what it has to tell the others. No I/O."""

import math
from collections.abc import Sequence

import trio

from trio_alerts.outcome import Accepted, Later, Outcome, Refused
from trio_alerts.pipeline.outage import Signal
from trio_alerts.ports.gates import ROW, Closed, GateView, News, Rate

_ANSWERS = (Accepted, Refused)  # who refuses an alert is there: it ends a row as an acceptance does


class ChannelGate:
    """One channel's gate. An alert passes a free one without asking anybody.

    Args:
        names: The channel's: its own, then its aliases.
        rate: How many alerts it takes, if that is bounded.
        urgent: Set when the others have to hear of something at once.

    Attributes:
        view: How all processes together see it, as of the last look.
        is_free: It has no rate, and nothing is known that closes it.
    """

    def __init__(self, names: Sequence[str], rate: Rate | None, urgent: Signal) -> None:
        self.name = names[0]
        self.names = names
        self.rate = rate
        self.view = GateView()
        self.is_free = rate is None
        self._urgent = urgent
        self._closed = Closed("rate", 0.0)
        self._closed_until_s = -math.inf  # all times here are trio's
        self._failing_since_s = math.inf  # as the others see it
        self._accepted_at_s = self._reported_at_s = -math.inf
        self._failed: dict[str, None] = {}  # after our last acceptance
        self._attempts = 0
        self._reason = ""
        self._stopped = False
        self._limited_until_s = -math.inf

    def __repr__(self) -> str:
        state = "free" if self.is_free else "open" if self.closed() is None else "closed"
        return f"<ChannelGate of {self.name}: {state}>"

    def configure(self, names: Sequence[str], rate: Rate | None) -> None:
        """Take other names and another rate; what is known of the channel stays."""
        if rate != self.rate and self._closed.why == "rate":
            self._closed_until_s = -math.inf
        self.names, self.rate = names, rate
        self.is_free = self._lets_everything_pass()

    def closed(self) -> Closed | None:
        """Return why it is closed as far as we know, without asking; None: it is worth asking."""
        if self.view.open_s is not None:
            return Closed("breaker", 0.0)
        left_s = self._closed_until_s - trio.current_time()
        return Closed(self._closed.why, left_s) if left_s > 0 else None

    def answered(self, answer: Closed) -> None:
        """Take in what the gate answered when it was asked: until then nobody need ask again."""
        self._closed, self._closed_until_s = answer, trio.current_time() + answer.for_s

    def note(self, outcome: Outcome | Later, record_id: str, now_s: float) -> None:
        """Take in the outcome of an attempt that was made."""
        if isinstance(outcome, _ANSWERS):
            self._accepted_at_s = now_s
            if self._attempts:
                self._forget_failures()
            if self.view.open_s is not None:
                self._urgent.set()
        elif isinstance(outcome, Later):
            self._limited_until_s = max(self._limited_until_s, now_s + outcome.after_s)
            self.is_free = False
            self.answered(Closed("limit", outcome.after_s))
            self._urgent.set()
        else:
            if len(self._failed) < ROW:
                self._failed[record_id] = None
            self._attempts += 1
            self._reason = outcome.reason
            if outcome.stop:
                self._stopped = True
                self._urgent.set()

    def take_news(self, now_s: float) -> News | None:
        """Return what the others have to hear of, once; None if there is nothing."""
        accepted = self._has_news_of_acceptance()
        limited_s = max(self._limited_until_s - now_s, 0.0)
        if not accepted and not self._attempts and not limited_s:
            return None
        news = News(accepted, tuple(self._failed), self._attempts, self._reason, self._stopped, limited_s)
        if accepted:
            self._reported_at_s = now_s
        self._forget_failures()
        self._limited_until_s = -math.inf
        return news

    def saw(self, view: GateView, asked_at_s: float) -> None:
        """Take in how all processes see it; `asked_at_s` is when they were asked.

        Others see failures, and we have had an acceptance since the first of them: they hear of it at once, before
        their row is long enough.
        """
        self.view = view
        self._failing_since_s = asked_at_s - view.failing_s if view.attempts else math.inf
        if view.limited_s:
            self.answered(Closed("limit", view.limited_s))
        self.is_free = self._lets_everything_pass()
        if self._has_news_of_acceptance():
            self._urgent.set()

    def _lets_everything_pass(self) -> bool:
        return self.rate is None and self.closed() is None

    def _has_news_of_acceptance(self) -> bool:
        return self._accepted_at_s > self._reported_at_s and self._accepted_at_s >= self._failing_since_s

    def _forget_failures(self) -> None:
        self._failed.clear()
        self._attempts, self._stopped = 0, False
