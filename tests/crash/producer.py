"""The rule engine of a cell: adds alerts to the stream and knows which ones are in it, whatever the server does."""

import json
import threading
import time
from collections.abc import Callable

import redis

PAUSE_S = 0.1  # between two tries of a server that does not answer
NOT_NOW = (redis.ReadOnlyError, redis.OutOfMemoryError)  # nothing was added; later it may be


class Producer:
    """Adds alerts under IDs of its own, so that an XADD whose answer was lost is safe to repeat.

    Args:
        connect: Returns a client of the server that has the stream now.
        stream: The stream.
        replicas: How many replicas must have an entry before it counts as emitted (none: the server alone).
        standing_by: The channels that stand by for each alert.

    Attributes:
        replicas: As given; a fail-over changes it.
        shares: Others write to the stream as well, so the server gives the IDs: then it may not lose an answer.
        emitted: The channels that the record of each entry must name, by its ID.
        emitted_at: When it was in the stream, in seconds since the epoch, by its ID.
    """

    def __init__(
        self, connect: Callable[[], redis.Redis], stream: str, *, replicas: int = 0, standing_by: tuple[str, ...] = ()
    ) -> None:
        self.emitted: dict[str, tuple[str, ...]] = {}
        self.emitted_at: dict[str, float] = {}
        self._connect = connect
        self._stream = stream
        self._standing_by = standing_by
        self.replicas = replicas
        self.shares = False
        self._first = int(time.time() * 1000)
        self._count = 0
        self._thread: threading.Thread | None = None

    def start(self, count: int, per_s: float) -> None:
        """Add that many at a steady rate, in the background."""
        self.join()
        self._thread = threading.Thread(target=self.add, args=(count, 1 / per_s), daemon=True, name="producer")
        self._thread.start()

    def join(self) -> None:
        """Wait until everything that was started is in the stream."""
        if self._thread is not None:
            self._thread.join()

    def add(self, count: int, pause_s: float = 0.0, **fields: object) -> None:
        """Add that many; every third goes to both channels."""
        for _ in range(count):
            self._count += 1
            severity = "high" if self._count % 3 == 0 else "low"
            event = {
                "alert_id": f"a-{self._count}",
                "rule_id": "crash-test",
                "view": "Lending",
                "scope": f"position {self._count % 7}",
                "severity": severity,
                "title": f"Alert {self._count}",
                "occurred_at": "2026-11-23T11:59:58Z",
                **fields,
            }
            entry_id = self._insist("*" if self.shares else f"{self._first}-{self._count}", json.dumps(event))
            self.emitted_at[entry_id] = time.time()
            self.emitted[entry_id] = (*(("hook", "steady") if severity == "high" else ("hook",)), *self._standing_by)
            if pause_s:
                time.sleep(pause_s)

    def _insist(self, entry_id: str, event: str) -> str:
        while True:
            try:
                with self._connect() as client:
                    try:
                        entry_id = client.xadd(self._stream, {"event": event}, id=entry_id).decode()
                    except NOT_NOW:
                        raise
                    except redis.ResponseError as error:
                        if "equal or smaller" not in str(error):  # else it is there: the answer was lost
                            raise
                    if not self.replicas or int(client.wait(self.replicas, 500)) >= self.replicas:
                        return entry_id
            except (redis.ConnectionError, redis.TimeoutError, *NOT_NOW):
                pass
            time.sleep(PAUSE_S)
