"""Slack: a bot that posts into one room, or an incoming webhook.

Facts from Slack's documentation: `chat.postMessage` (methods and its list of errors), "Sending messages using incoming
webhooks", "Rate limits" (about one message a second and room, short bursts), "Formatting text for app surfaces" (only
"&", "<" and ">" are escaped), "Rich text" blocks. Everything that an alert says stands in `rich_text`, whose text Slack
takes literally: no mark-up, no mention, no link comes from it.
"""

import datetime as dt
import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import msgspec

import trio_alerts
from trio_alerts.channels.alert_text import AlertText, cut, read_alert, utf16_units
from trio_alerts.channels.http_service import Judgement, forbidden_address, http_kind, judge_status, later
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import PostTemplate
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Accepted, Malformed, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import secrets_of_request
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import ReceiverAddress, parse_receiver_url
from trio_alerts.settings.kinds import BURST, NAME, RATE, SERVICE_TOKEN, WEBHOOK_URL, choice
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.settings.tables import about, setting
from trio_alerts.text import one_line

TEXT_UNITS = 3_000  # of one text; counted as JavaScript does, which is never less than Slack's count
FACT_UNITS = 300
PLAIN_UNITS = 3_900  # Slack's advice is 4,000 for the top-level text; it cuts at 40,000
MOST_LINKS = 10
LONGEST_WORD = 100  # characters of an error or a time stamp; what is longer is no word of Slack, and is not quoted
LIMIT_S = 30.0  # a limit without Retry-After

_WORD = re.compile(rb"[a-z]+(?:_[a-z]+)+")
_TAKEN = re.compile(rb'\s*\{\s*"ok"\s*:\s*true\b')
_TS = re.compile(rb'"ts"\s*:\s*"([0-9.]{1,50})"')

# Part of it "may have succeeded" in Slack's words; the last one is a time-out inside of Slack.
_UNSEEN = frozenset({"internal_error", "fatal_error", "request_timeout"})
_PASSING = frozenset({"service_unavailable", "team_added_to_org", "accesslimited", "rollup_error"})
# No alert of ours will be taken, whatever it says, until somebody puts the token or the room right.
_STOPPED = frozenset(
    {
        *("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope"),
        *("channel_not_found", "is_archived", "not_in_channel", "team_disabled", "no_service", "no_team"),
        # Of incoming webhooks:
        *("invalid_token", "channel_is_archived", "action_prohibited", "no_active_hooks", "no_service_id"),
        *("user_not_found", "posting_to_general_channel_denied"),
    }
)
_LIMITED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_MALFORMED = frozenset(
    {
        *("msg_too_long", "msg_blocks_too_long", "invalid_blocks", "invalid_blocks_format", "no_text"),
        *("invalid_arguments", "invalid_json", "json_not_object", "invalid_payload", "too_many_attachments"),
        *("block_mismatch", "markdown_text_conflict", "invalid_post_type", "missing_text_or_fallback_or_attachments"),
    }
)


@dataclass(frozen=True, kw_only=True)
class SlackSettings(ChannelSettings):
    """Slack: a bot's `token` and its `room`, or the `url` of an incoming webhook."""

    kind: Literal["slack"] = field(default="slack", metadata=about(choice("slack"), "The kind of channel."))
    token: Secret | None = setting(None, SERVICE_TOKEN, "The bot's token (`xoxb-…`), with the scope `chat:write`.")
    room: str | None = setting(None, NAME, "Where the bot posts: the ID of a channel (`C…`), or its name.")
    url: ReceiverAddress | None = setting(None, WEBHOOK_URL, "An incoming webhook, instead of `token` and `room`.")
    api_url: ReceiverAddress = setting(
        parse_receiver_url("https://slack.com/api"), WEBHOOK_URL, "Where Slack's API is.", "`https://slack.com/api`"
    )

    rate_per_s: float | None = setting(1.0, RATE, "How many messages a second the room takes; Slack's own limit is 1.")
    burst: int | None = setting(3, BURST, "How many it takes at once after a quiet time.")

    @property
    def destination(self) -> str:
        """See `ChannelSettings`."""
        return str(self.url) if self.url else f"{self.room} at {self.api_url!r}"

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:
        """See `ChannelSettings`."""
        given = (self.token is not None, self.room is not None, self.url is not None)
        if given not in ((True, True, False), (False, False, True)):
            yield "it takes token and room (a bot), or url alone (an incoming webhook)"
        yield from forbidden_address((self.url or self.api_url).host, networks)


class Slack:
    """One room of Slack, as the settings reach it; see `HttpService`."""

    def __init__(self, settings: SlackSettings, now: Callable[[], dt.datetime]) -> None:
        self._room = settings.room if settings.url is None else None
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": f"trio-alerts/{trio_alerts.__version__}",
        }
        if settings.url is not None:
            target, given = httpx.URL(settings.url.text.reveal()), {}
        else:
            target = httpx.URL(f"{settings.api_url.text.reveal().rstrip('/')}/chat.postMessage")
            given = {"authorization": f"Bearer {settings.token.reveal()}"} if settings.token else {}
        self._template = PostTemplate(target, headers | given)
        self._now = now
        self.origin = self._template.key
        self.secrets: Sequence[str] = secrets_of_request(target, given)

    def render(self, message: Message) -> bytes:
        """Return the request: blocks of literal text, and a short text for notifications; or the text alone."""
        alert = read_alert(message)
        lines = "\n".join(alert.lines()) if message.plain else alert.headline
        body: dict[str, Any] = {
            "text": html.escape(cut(lines, PLAIN_UNITS, utf16_units), quote=False),
            "mrkdwn": False,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if self._room is not None:
            body |= {"channel": self._room, "parse": "none", "link_names": False}
        if not message.plain:
            body["blocks"] = _blocks(alert)
        return self._template.render({}, msgspec.json.encode(body))

    def judge(self, answer: AnswerParser, kept: str) -> Judgement:
        """Go by Slack's own word for what is wrong: a bot gets it with a status of 200."""
        said = _said(answer)
        error = str(said.get("error") or ("no" if said.get("ok") is False else ""))
        if answer.status == 429 or error in _LIMITED:  # noqa: PLR2004
            return later(answer, kept, self._now(), LIMIT_S)
        if error:
            return _judged(error, answer.status, kept)
        outcome = judge_status(answer, kept, self._now)
        if isinstance(outcome, Accepted) and self._room is not None and said.get("ok") is not True:
            return Retry("answered without Slack's JSON", answer.status, None, True, kept, True)  # it was not Slack
        if isinstance(outcome, Accepted):
            return Accepted(answer.status, kept, str(said.get("ts") or ""))
        return _not_for_good(outcome) if isinstance(outcome, Refused) else outcome


def _not_for_good(outcome: Refused) -> Judgement:
    """Return what a status means here that is final elsewhere: try the text alone, or put right an address."""
    if outcome.status in (400, 413):
        return Malformed(outcome.reason, outcome.status, outcome.answer)
    return Retry(outcome.reason, outcome.status, answer=outcome.answer, needs_human=True)


def _judged(error: str, status: int, kept: str) -> Judgement:
    """Say what an error means; one that is not known here is for a human, and tried again."""
    reason = f"Slack said {error}"
    if error in _MALFORMED:
        return Malformed(reason, status, kept)
    passing = error in _PASSING or error in _UNSEEN
    return Retry(reason, status, None, error in _UNSEEN, kept, not passing, error in _STOPPED)


def _said(answer: AnswerParser) -> dict[str, Any]:
    """Return the JSON of an answer; an incoming webhook's error is one word of plain text."""
    try:
        said = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if _TAKEN.match(answer.body):  # it repeats the message behind that, and a long one is not read to its end
            ts = _TS.search(answer.body)
            return {"ok": True, "ts": ts[1].decode() if ts else ""}
        word = bytes(answer.body).strip()
        is_error = answer.status >= 400 and len(word) <= LONGEST_WORD and _WORD.fullmatch(word)  # noqa: PLR2004
        return {"error": word.decode()} if is_error else {}
    if not isinstance(said, dict):
        return {}
    return {
        name: one_line(value) if isinstance(value, str) else value
        for name, value in said.items()
        if not isinstance(value, str) or len(value) <= LONGEST_WORD
    }


def _blocks(alert: AlertText) -> list[dict[str, Any]]:
    sections = [[_text(alert.headline, TEXT_UNITS, bold=True)]]
    if alert.note:
        sections.append([_text(alert.note, TEXT_UNITS, italic=True)])
    facts = [
        part
        for name, value in alert.facts
        for part in (_text(name, FACT_UNITS, ": ", bold=True), _text(value, FACT_UNITS, "\n"))
    ]
    sections.append(facts)
    if alert.description:
        sections.append([_text(alert.description, TEXT_UNITS)])
    links = [part for link in alert.links[:MOST_LINKS] for part in (_link(link), _text("", 0, "\n"))]
    if links:
        sections.append(links)
    return [
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": section}]} for section in sections
    ]


def _text(text: str, limit: int, end: str = "", **style: bool) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "text", "text": cut(text, limit, utf16_units) + end}
    return node | {"style": style} if style else node


def _link(link: str) -> dict[str, Any]:
    """Return a link that shows where it leads; what is no web address stays text."""
    if link.startswith(("https://", "http://")) and utf16_units(link) <= TEXT_UNITS and " " not in link:
        return {"type": "link", "url": link, "text": link}
    return _text(link or "-", TEXT_UNITS)


KIND = http_kind(SlackSettings, Slack)
