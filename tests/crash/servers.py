"""The servers of a run, shared by its cells: each is started when the first cell asks for it."""

import contextlib
from functools import cached_property
from types import TracebackType
from typing import Self

from tests.support.servers import OpenSearchServer, ReceiverServer, ValkeyServer


class Servers:
    """Valkey with an append-only file, OpenSearch, and the receivers; all of them end with the block."""

    def __init__(self) -> None:
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @cached_property
    def redis(self) -> ValkeyServer:
        """Valkey; what it has acknowledged survives a kill."""
        return self._ending.enter_context(ValkeyServer(appendonly=True))

    @cached_property
    def opensearch(self) -> OpenSearchServer:
        """OpenSearch 3.4.0, one node."""
        return self._ending.enter_context(OpenSearchServer("3.4.0"))

    @cached_property
    def receiver(self) -> ReceiverServer:
        """Both channels' receivers: the paths /hook and /steady of one process, which outlives every worker."""
        return self._ending.enter_context(ReceiverServer(lean=True))
