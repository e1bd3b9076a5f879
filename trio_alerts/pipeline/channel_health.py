"""The health of a channel, as the log reports it: when attempts fail, each minute while it fails, and at the end.

A channel is failing when nothing was accepted for `FAILING_AFTER_S` while attempts failed. One of which a few attempts
in a hundred fail is not: their retries deliver. That is reported too, but at most once a minute.
"""

import math

from loguru import logger

from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.gates import GateView
from trio_alerts.text import in_words

FAILING_AFTER_S = 30.0  # by then the first retry, after 5 s, has failed too, or is slow
LIMITS_EVERY_S = 60.0
MOST_REASONS = 5  # that are each reported at once; a receiver could find a new one for every attempt


class ChannelHealth:
    """One channel in this process.

    Attributes:
        failing_since_s: When the first attempt failed since the last acceptance, on trio's clock; None if none did.
        attempts: How many attempts failed since then.
    """

    def __init__(self, name: str) -> None:
        self.failing_since_s: float | None = None
        self.attempts = 0
        self._name = name
        self._last: Retry | Refused | None = None
        self._reported: set[str] = set()  # reasons; forgotten after a minute without a failure
        self._bugs: set[type[Exception]] = set()
        self._failed = self._unreported = 0  # attempts since the last report
        self._limit_reported_s = -math.inf

    def __repr__(self) -> str:
        return f"<ChannelHealth of {self._name}: {self.attempts} attempts failed since the last was accepted>"

    def is_failing(self, now_s: float) -> bool:
        """Tell whether nothing was accepted for so long that waiting alone may not help."""
        return self.failing_since_s is not None and now_s - self.failing_since_s >= FAILING_AFTER_S

    def is_new(self, bug: type[Exception]) -> bool:
        """Tell whether the channel has this bug for the first time: its traceback is logged once."""
        known = bug in self._bugs
        self._bugs.add(bug)
        return not known

    def note(self, outcome: Outcome | Later, record_id: str, attempt: int, now_s: float, *, shut: bool = False) -> None:
        """Take in the outcome of an attempt, the alert's `attempt`-th through this channel.

        `shut`: its breaker was open. That it closes is logged where it closes for all processes.
        """
        if isinstance(outcome, Accepted):
            if self.failing_since_s is not None:
                self._accepted(now_s, self.failing_since_s, shut=shut)
        elif isinstance(outcome, Later):
            self._limited(outcome, now_s)
        else:
            self._not_accepted(outcome, record_id, attempt, now_s)

    def report(self, now_s: float, waiting: int | None, seen: GateView | None = None) -> None:
        """Report once a minute how it does, unless it does well.

        Args:
            now_s: The time.
            waiting: How many alerts are in its queue or wait for a retry; None: unknown.
            seen: What all processes saw of it; None: unknown.
        """
        last, since_s = self._last, self.failing_since_s
        if last is not None and since_s is not None and self.is_failing(now_s):
            if not self._failed and (waiting == 0 or (seen is not None and not seen.attempts)):
                self._reset()  # others delivered, or gave up: this process makes no attempt that would show it
                logger.info(
                    "channel {channel}: {reason}",
                    channel=self._name,
                    reason="no alert waits for it any more" if waiting == 0 else "another process finds it well again",
                )
            else:
                self._report_failing(last, now_s - since_s, waiting, seen or GateView())
        elif last is not None and self._unreported:
            logger.warning(
                "channel {channel}: {_attempts} failed in the last minute, others were accepted; "
                "the last answer: {reason}",
                channel=self._name,
                attempts=self._failed,
                _attempts=_counted(self._failed, "attempt"),
                reason=last.reason,
                status=last.status,
            )
        if not self._failed and since_s is None:
            self._reported.clear()
        self._failed = self._unreported = 0

    def _report_failing(self, last: Retry | Refused, for_s: float, waiting: int | None, seen: GateView) -> None:
        for_s, attempts = max(for_s, seen.failing_s), max(self.attempts, seen.attempts)
        logger.error(
            "channel {channel} is failing: nothing accepted for {_failing}, {_attempts} failed, {_waiting}; "
            "the last answer: {reason}",
            channel=self._name,
            reason=last.reason,
            status=last.status,
            failing_s=round(for_s, 1),
            _failing=in_words(for_s),
            attempts=attempts,
            _attempts=_counted(attempts, "attempt"),
            waiting=waiting,
            _waiting="how many alerts wait is unknown" if waiting is None else _alerts_wait(waiting),
        )

    def _limited(self, outcome: Later, now_s: float) -> None:
        """Say once a minute that the service wants nothing for a while: that is no failure, and nothing is lost."""
        if now_s - self._limit_reported_s < LIMITS_EVERY_S:
            return
        self._limit_reported_s = now_s
        logger.warning(
            "channel {channel}: {reason}; nothing is sent to it for {_wait}, and its alerts wait",
            channel=self._name,
            reason=outcome.reason,
            status=outcome.status,
            wait_s=round(outcome.after_s, 1),
            _wait=in_words(outcome.after_s),
        )

    def _accepted(self, now_s: float, since_s: float, *, shut: bool) -> None:
        if self.is_failing(now_s) and not shut:
            logger.info(
                "channel {channel} accepts again, after {_failing} and {_attempts}",
                channel=self._name,
                failing_s=round(now_s - since_s, 1),
                _failing=in_words(now_s - since_s),
                attempts=self.attempts,
                _attempts=_counted(self.attempts, "failed attempt"),
            )
        self._reset()

    def _not_accepted(self, outcome: Retry | Refused, record_id: str, attempt: int, now_s: float) -> None:
        if self.failing_since_s is None:
            self.failing_since_s = now_s
        self.attempts += 1
        self._failed += 1
        self._last = outcome
        if outcome.reason in self._reported or len(self._reported) >= MOST_REASONS:
            self._unreported += 1
            return
        self._reported.add(outcome.reason)
        logger.log(
            "ERROR" if outcome.needs_human else "WARNING",
            "channel {channel}: {reason} (first with {record_id}; from here on once a minute)",
            channel=self._name,
            reason=outcome.reason,
            record_id=record_id,
            status=outcome.status,
            attempt=attempt,
        )

    def _reset(self) -> None:
        self.failing_since_s = None
        self.attempts = 0


def _alerts_wait(count: int) -> str:
    return "1 alert waits" if count == 1 else f"{count:,} alerts wait"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
