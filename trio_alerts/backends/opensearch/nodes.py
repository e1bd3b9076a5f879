"""Which node of OpenSearch a request tries, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

# A node that failed is asked last for this long, twice as long after each further failure. Too long costs little
# (another node answers, and with none left it is asked at once), too short costs a time-out each time it hangs.
FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0


@dataclass(eq=False, slots=True)
class Node:
    """One node, how many requests failed on it since the last that worked, and until when it rests."""

    url: str
    failures: int = 0
    rests_until_s: float = 0.0


class Nodes:
    """Decides which node is asked. Pure: the caller passes the time.

    Requests take the healthy nodes in turn. A node that failed rests; resting nodes are the last resort, the one that
    has rested longest first, so that with every node down each request still tries them all.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._nodes = [Node(url) for url in urls]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def in_order(self, now_s: float) -> list[Node]:
        """Return every node once, in the order in which a request made now should try them."""
        self._turn = (self._turn + 1) % len(self._nodes)
        turned = self._nodes[self._turn :] + self._nodes[: self._turn]
        return sorted(turned, key=lambda node: node.rests_until_s if node.rests_until_s > now_s else 0.0)

    def failed(self, node: Node, now_s: float) -> None:
        """Let `node` rest, longer each time."""
        rest_s = min(FIRST_REST_S * 2.0 ** min(node.failures, 10), LONGEST_REST_S)
        node.failures += 1
        node.rests_until_s = now_s + rest_s

    def worked(self, node: Node) -> None:
        """Forget that `node` ever failed."""
        node.failures = 0
        node.rests_until_s = 0.0
