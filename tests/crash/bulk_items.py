"""Items of a `_bulk` request that the server never sees: taken out of it, and answered with 429 among the others.

So answers a node whose write queue was full for some of the shards: the request as a whole is a success.
"""

import random
import re
from collections.abc import Mapping

import msgspec

END_OF_HEAD = b"\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ERROR = {"type": "rejected_execution_exception", "reason": "rejected execution of primary operation"}

Item = dict[str, object]


def is_bulk(request: bytes) -> bool:
    """Whether a whole HTTP request is a `_bulk`."""
    return request.split(b" ", 2)[1].partition(b"?")[0].endswith(b"/_bulk")


def take_out(request: bytes, share: float) -> tuple[bytes, dict[int, Item]]:
    """Take items out of a `_bulk` request by chance.

    Args:
        request: Head and body; each item has two lines, its action and its document.
        share: Of the items that are taken out.

    Returns:
        The request that is left (empty: nothing is left), and what must be answered instead, by the item's place.
    """
    head, _, body = request.partition(END_OF_HEAD)
    index = head.split(b" ", 2)[1].split(b"/")[1].decode()
    lines = body.split(b"\n")
    left: list[bytes] = []
    taken: dict[int, Item] = {}
    for place, (action, document) in enumerate(zip(lines[::2], lines[1::2], strict=False)):
        if random.random() < share:
            ((verb, target),) = msgspec.json.decode(action).items()
            taken[place] = {verb: {"_index": index, "_id": target["_id"], "status": 429, "error": ERROR}}
        else:
            left.append(b"%b\n%b\n" % (action, document))
    return (_message(head, b"".join(left)) if left else b""), taken


def put_in(answer: bytes, taken: Mapping[int, Item]) -> bytes:
    """Put the items that were taken out of a request into the answer, each in its place, if it is about items."""
    head, _, body = answer.partition(END_OF_HEAD)
    said = msgspec.json.decode(body)
    if "items" not in said:
        return answer  # the server refuses the request as a whole
    for place in sorted(taken):
        said["items"].insert(place, taken[place])
    return _message(head, msgspec.json.encode(said))


def is_whole(answer: bytes) -> bool:
    """Whether all of an HTTP answer with a content length is there."""
    head, end, body = answer.partition(END_OF_HEAD)
    found = LENGTH.search(head)
    return bool(end) and found is not None and len(body) >= int(found[1])


def _message(head: bytes, body: bytes) -> bytes:
    return LENGTH.sub(b"content-length: %d" % len(body), head, count=1) + END_OF_HEAD + body
