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
        if (silence.id in self._kept.by_id) != exists:
            return False
        self.server.keep_silence(min(self._names), self._group, silence, forgotten)
        return True
