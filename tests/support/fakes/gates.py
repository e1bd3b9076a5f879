"""The gates on the server in memory."""

from collections.abc import Mapping, Sequence

from tests.support.fakes.stream_server import KeptGate, View
from tests.support.fakes.wire import served
from trio_alerts.ports.gates import (
    LONGEST_LIMIT_S,
    PROBE_EVERY_S,
    PROBE_SLACK_S,
    ROW,
    ROW_LASTS_S,
    Admitted,
    Closed,
    GateView,
    News,
    Rate,
)

TOLERANCE_S = 1e-6  # the server has whole microseconds, where these are the sums of fractions


class FakeGates(View):
    """The `Gates` of one deployment on a `FakeServer`."""

    @served
    def ask(
        self, channel: str, rate: Rate | None = None, *, probe: bool = False, again: bool = False
    ) -> Closed | Admitted:
        gate, now_s = self._gate(channel), self.server.time()
        settings = self._settings
        keeps_away_s = max(settings.connect_timeout_s + settings.send_timeout_s + PROBE_SLACK_S, PROBE_EVERY_S)
        if limited_s := _left(gate.until_s - now_s, LONGEST_LIMIT_S):
            return Closed("limit", limited_s)
        if gate.open_s is not None:
            probed_s = _left(gate.probe_s - now_s, keeps_away_s)
            if not probe or probed_s:
                return Closed("breaker", probed_s)
        if rate is not None:
            full_s, earned_s = now_s + rate.burst / rate.per_s, 1 / rate.per_s
            tat_s = max(gate.tat_s - again * earned_s, now_s)
            if tat_s > full_s + TOLERANCE_S:
                gate.tat_s = full_s
                return Closed("rate", earned_s)
            if tat_s + earned_s > full_s + TOLERANCE_S:
                return Closed("rate", tat_s + earned_s - full_s)
            gate.tat_s = tat_s + earned_s
        if gate.open_s is not None:
            gate.probe_s = now_s + keeps_away_s
        return Admitted(probe=gate.open_s is not None)

    @served
    def exchange(self, news: Mapping[str, News], channels: Sequence[str]) -> dict[str, GateView]:
        return {channel: self._exchanged(channel, news.get(channel)) for channel in channels}

    def _exchanged(self, channel: str, news: News | None) -> GateView:
        gate, now_s = self._gate(channel), self.server.time()
        was_open = gate.open_s is not None
        if news is not None:
            gate = self._take_in(channel, gate, news)
        return GateView(
            row=len(gate.failed),
            failing_s=0.0 if gate.first_s is None else max(now_s - gate.first_s, 0.0),
            attempts=gate.attempts,
            open_s=None if gate.open_s is None else max(now_s - gate.open_s, 0.0),
            limited_s=_left(gate.until_s - now_s, LONGEST_LIMIT_S),
            reason=gate.reason,
            changed=was_open != (gate.open_s is not None),
        )

    def _take_in(self, channel: str, gate: KeptGate, news: News) -> KeptGate:
        now_s = self.server.time()
        if news.accepted:
            gate = self.server.gates[self._key(channel)] = KeptGate(gate.tat_s, gate.until_s)
        if news.attempts:
            gate.attempts += news.attempts
            gate.reason = news.reason
            gate.first_s = now_s if gate.first_s is None else gate.first_s
            gate.failed = list(dict.fromkeys([*gate.failed, *news.failed]))[:ROW]
            row = len(gate.failed) >= ROW and now_s - gate.first_s >= ROW_LASTS_S
            if gate.open_s is None and (news.stopped or row):
                gate.open_s, gate.probe_s = now_s, now_s + PROBE_EVERY_S
        limited_s = min(news.limited_s, LONGEST_LIMIT_S)
        if limited_s > _left(gate.until_s - now_s, LONGEST_LIMIT_S):
            gate.until_s = now_s + limited_s
        return gate

    def _key(self, channel: str) -> tuple[str, str, str]:
        return (min(self._names), self._group, channel)

    def _gate(self, channel: str) -> KeptGate:
        return self.server.gates.setdefault(self._key(channel), KeptGate())


def _left(seconds: float, most_s: float) -> float:
    """Return how long is left; what lies further ahead than it can was written before the clock was set back."""
    return seconds if 0 < seconds <= most_s + TOLERANCE_S else 0.0
