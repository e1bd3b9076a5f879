"""Where a run keeps its records, and how the bench finds out which of them say delivered."""

import contextlib
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.support.servers import OpenSearchServer
from trio_alerts.backends.opensearch.mapping import IndexSpec

StoreKind = Literal["none", "sqlite", "opensearch"]

# Half of what a small production node would get; the compiler and collector are Java's own choice.
JAVA_OPTIONS = ("-Xms1g", "-Xmx1g")
PAGE = 10_000  # OpenSearch's own limit


class Place:
    """One run's records.

    Attributes:
        url: The setting `store_url`.
        index: The setting `index`.
    """

    url = "sqlite:///unused"
    index = "unused"

    def delivered_ids(self) -> list[str]:
        """Return the ID of every record that says delivered; nothing if only the workers themselves know it."""
        return []

    def failed(self) -> int:
        """Return how many records say failed; none if only the workers themselves know it."""
        return 0

    def stored_bytes(self) -> int:
        """Return what all records take on disk once nobody writes any more, without the log of writes."""
        return 0

    def pids(self) -> list[int]:
        """Return the store's own processes."""
        return []

    def version(self) -> str:
        """Return what the store is."""
        return "none"


class SqlitePlace(Place):
    """A file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.db"
        self.url = f"sqlite:///{self._path}"

    def delivered_ids(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM records WHERE state = 'delivered'")]

    def failed(self) -> int:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return int(connection.execute("SELECT count(*) FROM records WHERE state = 'failed'").fetchone()[0])

    def stored_bytes(self) -> int:
        return self._path.stat().st_size

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"


class OpenSearchPlace(Place):
    """An index of its own, removed at the end: the program makes it, each checkout as it wants it.

    Args:
        server: Running.
    """

    def __init__(self, server: OpenSearchServer) -> None:
        self._server = server
        self.url = server.url
        self.index = f"bench-{secrets.token_hex(4)}"

    def make(self, stream: str, group: str) -> None:
        """Make the same index for a measure, which cannot."""
        wanted = IndexSpec(self.index, (stream,), group)
        status, said = self._server.request("PUT", f"/{wanted.first_index}", wanted.body())
        assert status == 200, said

    def delivered_ids(self) -> list[str]:
        self._server.request("POST", f"/{self.index}/_refresh")
        query = {
            "size": PAGE,
            "_source": False,
            "track_total_hits": False,
            "query": {"term": {"delivered": True}},
            "sort": [{"record_id": "asc"}],
        }
        ids: list[str] = []
        while True:
            status, answer = self._server.request("POST", f"/{self.index}/_search", query)
            assert status == 200, answer
            hits = answer["hits"]["hits"]
            ids += [hit["_id"] for hit in hits]
            if len(hits) < PAGE:
                return ids
            query["search_after"] = hits[-1]["sort"]

    def failed(self) -> int:
        self._server.request("POST", f"/{self.index}/_refresh")
        query = {"query": {"term": {"delivery.state": "failed"}}}
        status, answer = self._server.request("POST", f"/{self.index}/_count", query)
        assert status == 200, answer
        return int(answer["count"])

    def stored_bytes(self) -> int:
        # Of a copy in one segment: the index itself keeps what was replaced, for as long as chance has it.
        copy = f"{self.index}-copy"
        fresh = {"index.blocks.write": None, "index.store.stats_refresh_interval": "0s"}
        for method, path, body in (
            ("PUT", f"/{self.index}/_settings", {"index.blocks.write": True}),
            ("POST", f"/{self.index}-000001/_clone/{copy}", {"settings": fresh}),
            ("POST", f"/{copy}/_forcemerge?max_num_segments=1", None),
            ("POST", f"/{copy}/_refresh", None),  # until then a search would read the segments from before
            ("GET", f"/{copy}/_stats/store", None),
        ):
            status, answer = self._server.request(method, path, body)
            assert status == 200, answer
        return int(answer["_all"]["primaries"]["store"]["size_in_bytes"])

    def pids(self) -> list[int]:
        return [self._server.pid]

    def version(self) -> str:
        return f"OpenSearch {self._server.version()}"


@contextmanager
def open_place(
    kind: StoreKind, server: OpenSearchServer | None, stream: str, group: str, *, measure: bool
) -> Iterator[Place]:
    """Make an empty place for one run, and remove it afterwards.

    Args:
        kind: Of the store.
        server: For `opensearch`.
        stream: That is read.
        group: By which group.
        measure: It is for a measure, not for the program itself.
    """
    if kind == "none":
        yield Place()
    elif kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="trio-alerts-bench-") as folder:
            yield SqlitePlace(Path(folder))
    else:
        assert server is not None
        place = OpenSearchPlace(server)
        try:
            if measure:
                place.make(stream, group)
            yield place
        finally:
            server.remove_indices(place.index)
