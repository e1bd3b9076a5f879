"""The silences on the server in memory."""

import datetime as dt
from collections.abc import Sequence

from tests.support.fakes.stream_server import KeptSilences, View
from tests.support.fakes.wire import served
from trio_alerts.ports.silences import Silence, SilenceList


class FakeSilences(View):
    """The `Silences` of one deployment on a `FakeServer`."""

    @served
    def latest(self, known: str | None = None) -> SilenceList | None:
        kept = self._kept
        return None if known == kept.version else SilenceList(kept.version, tuple(kept.by_id.values()))

    @served
    def add(self, silence: Silence, forgotten: Sequence[str] = ()) -> bool:
        return self._write(silence, exists=False, forgotten=forgotten)

    @served
    def replace(self, silence: Silence) -> bool:
        return self._write(silence, exists=True)

    @served
    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.server.time(), dt.UTC)

    @property
    def _kept(self) -> KeptSilences:
        return self.server.silences.get((min(self._names), self._group), KeptSilences())

    def _write(self, silence: Silence, *, exists: bool, forgotten: Sequence[str] = ()) -> bool:
        kept = self._kept
        if (silence.id in kept.by_id) != exists:
            return False
        by_id = {one: there for one, there in kept.by_id.items() if one not in forgotten} | {silence.id: silence}
        self.server.silence_writes += 1
        self.server.silences[min(self._names), self._group] = KeptSilences(f"{self.server.silence_writes}", by_id)
        return True
