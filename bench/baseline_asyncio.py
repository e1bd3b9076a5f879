"""The measure: what a good engineer would write in an afternoon on asyncio, used as its libraries want to be used.

redis.asyncio (with hiredis), AsyncOpenSearch and aiohttp, N tasks, one write a step. It does the four steps and signs
its requests. It does none of what a crash, a lost answer or a schema that is wrong would need.

`python -m bench.baseline_asyncio --report FILE [--remember]`, configured by the same environment as the program itself.
"""

import argparse
import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import os
import signal
import time
from array import array
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
from opensearchpy import AsyncOpenSearch
from redis.asyncio import BlockingConnectionPool, Redis

from bench.remembering_store import packed_id, unpacked_id
from bench.worker import WorkerReport

REQUIRED = ("alert_id", "rule_id", "view", "scope", "severity", "title", "occurred_at")
SEND_TIMEOUT_S = 15
STORE_CONNECTIONS = 64  # the default is 10
REDIS_CONNECTIONS = 32
BATCH = 100


class Store(Protocol):
    """The two writes of an alert."""

    async def create(self, record_id: str, document: dict[str, Any]) -> None:
        """Write the record before the send."""

    async def update(self, record_id: str, change: dict[str, Any]) -> None:
        """Write the outcome."""

    async def close(self) -> None:
        """End."""


class OpenSearchStore:
    """One request a write."""

    def __init__(self, url: str, index: str) -> None:
        self._client = AsyncOpenSearch(url, maxsize=STORE_CONNECTIONS, timeout=30)
        self._index = index

    async def create(self, record_id: str, document: dict[str, Any]) -> None:
        await self._client.create(index=self._index, id=record_id, body=document)

    async def update(self, record_id: str, change: dict[str, Any]) -> None:
        await self._client.update(index=self._index, id=record_id, body={"doc": change})

    async def close(self) -> None:
        await self._client.close()


class RememberingStore:
    """For a run without a store."""

    def __init__(self) -> None:
        self._live: dict[str, dict[str, Any]] = {}
        self.delivered = array("Q")

    async def create(self, record_id: str, document: dict[str, Any]) -> None:
        self._live[record_id] = document

    async def update(self, record_id: str, change: dict[str, Any]) -> None:
        self._live.pop(record_id).update(change)
        self.delivered.append(packed_id(record_id))

    async def close(self) -> None:
        pass


class Program:
    """A reader and N workers around a queue."""

    def __init__(self, environ: dict[str, str], store: Store) -> None:
        # The default pool refuses the 101st task; this one lets it wait.
        pool = BlockingConnectionPool.from_url(environ["REDIS_URL"], max_connections=REDIS_CONNECTIONS, timeout=60)
        self._redis = Redis(connection_pool=pool)
        self._store = store
        self._stream = environ["STREAM"]
        self._group = environ["GROUP"]
        self._consumer = f"{os.uname().nodename}-{os.getpid()}"
        self._workers = int(environ["WORKERS"])
        self._url = environ["WEBHOOK_URL"]
        self._key = base64.b64decode(environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
        self._queue: asyncio.Queue[tuple[bytes, dict[bytes, bytes]]] = asyncio.Queue(self._workers)

    async def run(self) -> None:
        """Work until cancelled."""
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            self._redis,
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._read())
            for _ in range(self._workers):
                tasks.create_task(self._work(http))

    async def _read(self) -> None:
        while True:
            streams: Any = {self._stream: ">"}
            answer: Any = await self._redis.xreadgroup(self._group, self._consumer, streams, count=BATCH, block=2000)
            for _, entries in answer:
                for entry_id, fields in entries:
                    await self._queue.put((entry_id, fields))

    async def _work(self, http: aiohttp.ClientSession) -> None:
        while True:
            entry_id, fields = await self._queue.get()
            await self._process(http, entry_id.decode(), fields[b"event"])

    async def _process(self, http: aiohttp.ClientSession, record_id: str, payload: bytes) -> None:
        event = json.loads(payload)
        missing = [name for name in REQUIRED if name not in event]
        if missing:
            raise ValueError(f"{record_id}: no {missing}")
        now = dt.datetime.now(dt.UTC).isoformat()
        document = {**event, "record_id": record_id, "ingested_at": now, "delivered": False}
        if "details" in document:
            document["details"] = json.dumps(document["details"])
        await self._store.create(record_id, document)
        status = await self._send(http, record_id, payload)
        delivered = status // 100 == 2
        at = dt.datetime.now(dt.UTC).isoformat()
        state = {"state": "delivered" if delivered else "failed", "attempts": 1, "last_status": status, "last_at": at}
        await self._store.update(record_id, {"delivered": delivered, "delivery": state})
        await self._redis.xack(self._stream, self._group, record_id)

    async def _send(self, http: aiohttp.ClientSession, record_id: str, payload: bytes) -> int:
        timestamp = str(int(time.time()))
        signed = b"%b.%b.%b" % (record_id.encode(), timestamp.encode(), payload)
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": record_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }
        async with http.post(self._url, data=payload, headers=headers) as response:
            await response.read()
            return response.status


def main() -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.baseline_asyncio", description=main.__doc__)
    parser.add_argument("--report", type=Path, required=True, help="where to write what was counted")
    parser.add_argument("--remember", action="store_true", help="without a store")
    options = parser.parse_args()
    report = asyncio.run(_work(options.remember))
    options.report.write_bytes(msgspec.json.encode(report))


async def _work(remember: bool) -> WorkerReport:
    environ = {
        name.removeprefix("TRIO_ALERTS_"): text for name, text in os.environ.items() if name.startswith("TRIO_ALERTS_")
    }
    memory = RememberingStore()
    store: Store = memory if remember else OpenSearchStore(environ["STORE_URL"], environ["INDEX"])
    program = asyncio.create_task(Program(environ, store).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, program.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await program
    await store.close()
    return WorkerReport(remembered=[unpacked_id(packed) for packed in memory.delivered])


if __name__ == "__main__":
    main()
