"""Slack, as its documents describe it: `chat.postMessage`, and incoming webhooks. Its own SDK reads what is posted.

Sources: api.slack.com/methods/chat.postMessage (arguments, errors), /messaging/webhooks (errors as plain words),
/apis/rate-limits, /reference/block-kit/blocks (50 blocks, `rich_text`), /changelog (text is cut at 40,000 characters).
"""

import inspect
import math
from typing import Any

import msgspec
from slack_sdk import WebClient
from slack_sdk.models.blocks import Block

from tests.support.services import http
from tests.support.services.limit import Limit

MOST_BLOCKS = 50
MOST_TEXT = 40_000
MOST_NODE_TEXT = 3_000
ARGUMENTS = inspect.signature(WebClient.chat_postMessage).parameters.keys()


class SlackStandIn:
    """One workspace with one room.

    Args:
        token: Of the bot.
        room: That it may post to.
        hook: The path of the incoming webhook.
        error: What is answered instead, if it is not empty.
        limit: How much is taken.
        blocks: Whether blocks are taken at all: else they are invalid.

    Attributes:
        posted: The messages that were taken.
    """

    def __init__(self, token: str, room: str, hook: str = "/hook") -> None:
        self.token, self.room, self.hook = token, room, hook
        self.error = ""
        self.limit: Limit | None = None
        self.blocks = True
        self.posted: list[dict[str, Any]] = []

    def answer(self, request: bytes) -> bytes:
        path, headers, body = http.split(request)
        bot = path.endswith("/chat.postMessage")
        if not bot and not path.startswith(self.hook):
            return http.text(404, "no_service")
        wait_s = self.limit.wait_s() if self.limit else 0.0
        if wait_s:
            return http.json(429, {"ok": False, "error": "ratelimited"}, retry_after=str(math.ceil(wait_s)))
        error = self.error or self._fault_of(headers, body, bot=bot)
        if bot:
            return http.json(200, {"ok": False, "error": error} if error else self._taken(body))
        if error:
            return http.text(403 if error == "invalid_token" else 400, error)
        self._taken(body)
        return http.text(200, "ok")

    def _taken(self, body: bytes) -> dict[str, Any]:
        self.posted.append(msgspec.json.decode(body))
        return {"ok": True, "channel": "C024BE91L", "ts": f"1503435956.{len(self.posted):06}"}

    def _fault_of(self, headers: dict[str, str], body: bytes, *, bot: bool) -> str:
        if bot and headers.get("authorization") != f"Bearer {self.token}":
            return "invalid_auth" if "authorization" in headers else "not_authed"
        if not headers["content-type"].startswith("application/json"):
            return "invalid_form_data"
        message = msgspec.json.decode(body)
        if bot and message.get("channel") != self.room:
            return "channel_not_found"
        if bot and not message.keys() <= ARGUMENTS:
            return "invalid_arguments"
        if not message.get("text") and not message.get("blocks"):
            return "no_text"
        if len(message.get("text", "")) > MOST_TEXT:
            return "msg_too_long"
        blocks = message.get("blocks", [])
        if len(blocks) > MOST_BLOCKS or not (self.blocks and all(map(_is_sound, blocks))):
            return "invalid_blocks"
        return ""


def _is_sound(block: dict[str, Any]) -> bool:
    """Tell whether it is a block to Slack's own SDK, which drops what it does not know, and short enough."""
    read = Block.parse(block)
    nodes = [node for section in block["elements"] for node in section["elements"]]
    return read is not None and block == read.to_dict() and nodes != [] and all(map(_fits, nodes))


def _fits(node: dict[str, Any]) -> bool:
    if node["type"] == "link" and not node["url"].startswith(("https://", "http://")):
        return False
    return 1 <= len(node["text"].encode("utf-16-le")) // 2 <= MOST_NODE_TEXT


def seen(message: dict[str, Any]) -> str:
    """Return what people see of a message: the text of its blocks, or the top-level text without its escapes."""
    blocks = message.get("blocks")
    if blocks is None:
        return str(message["text"]).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    sections = [section for block in blocks for section in block["elements"]]
    return "\n".join("".join(node["text"] for node in section["elements"]).removesuffix("\n") for section in sections)
