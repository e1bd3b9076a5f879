"""The servers of a run, shared by its cells: each is started when the first cell asks for it."""

from contextlib import ExitStack
from functools import cached_property

from tests.support.servers import OpenSearchServer, ReceiverServer, ValkeyServer


class Servers(ExitStack):
    """Valkey with an append-only file, OpenSearch, and the receivers; all of them end with the block."""

    @cached_property
    def redis(self) -> ValkeyServer:
        """Valkey; what it has acknowledged survives a kill."""
        return self.enter_context(ValkeyServer(appendonly=True))

    @cached_property
    def opensearch(self) -> OpenSearchServer:
        """OpenSearch 3.4.0, one node."""
        return self.enter_context(OpenSearchServer("3.4.0"))

    @cached_property
    def receiver(self) -> ReceiverServer:
        """Both channels' receivers: the paths /hook and /steady of one process, which outlives every worker."""
        return self.enter_context(ReceiverServer(lean=True))
