"""Alerts written to the stream."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from trio_alerts.backends.redis.producer import AddResult, RedisProducer
from trio_alerts.operations.alert_file import FoundAlert
from trio_alerts.record_ids import RecordIds


@dataclass(frozen=True, slots=True)
class Emitted:
    """What became of an alert; `entry_id` and `record_id` are empty if it was not certainly added."""

    alert: FoundAlert
    stream: str
    result: AddResult
    entry_id: str
    record_id: str


async def emit(
    producer: RedisProducer, alerts: Sequence[FoundAlert], streams: Sequence[str]
) -> tuple[list[Emitted], str]:
    """Write alerts in their order, each once; return what became of each, and why it stopped early, if it did.

    Cancellation: what was on its way may have been added.
    """
    chosen = [stream_of(alert, streams) for alert in alerts]
    written = await producer.add([(stream, alert.payload) for stream, alert in zip(chosen, alerts, strict=True)])
    ids = RecordIds(streams)
    emitted = [
        Emitted(alert, stream, result, entry_id, ids.of(stream, entry_id) if entry_id else "")
        for alert, stream, result, entry_id in zip(alerts, chosen, written.results, written.entry_ids, strict=True)
    ]
    return emitted, written.reason


def stream_of(alert: FoundAlert, streams: Sequence[str]) -> str:
    """Return the stream for an alert: the same `alert_id` always goes to the same of several."""
    return streams[zlib.crc32(alert.alert_id.encode()) % len(streams)]
