"""What a service over HTTP is, as its own file describes it: requests and what answers mean. Pure, and without trio."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec.structs import replace

from trio_alerts.channels.registry import ChannelKind, Equipment
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import OriginKey
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.status import classify_status, parse_retry_after
from trio_alerts.outcome import Later, Malformed, Outcome, Retry
from trio_alerts.ports.channel import ConfiguredChannel, Message
from trio_alerts.ports.gates import LONGEST_LIMIT_S
from trio_alerts.settings.hosts import literal_address
from trio_alerts.settings.settings import ChannelSettings

SHORTEST_LIMIT_S = 1.0  # a service that names a shorter one, or a time that is over, is left alone for this

Judgement: TypeAlias = Outcome | Later | Malformed


class HttpService(Protocol):
    """One service, as its own file describes it: pure functions, no I/O.

    Attributes:
        origin: Where its requests go.
        secrets: What must be in no record or log, even if an answer repeats it.
    """

    origin: OriginKey
    secrets: Sequence[str]

    def render(self, message: Message) -> bytes:
        """Return the request of one attempt; raises `httpx.LocalProtocolError` if none can carry the message."""

    def judge(self, answer: AnswerParser, kept: str) -> Judgement:
        """Say what an answer means; `kept` is the beginning of its body without the secrets, for the record."""


def http_kind(
    settings: type[ChannelSettings], service: Callable[[Any, Callable[[], dt.datetime]], HttpService]
) -> ChannelKind:
    """Return a kind of channel whose service is reached by HTTP; `service` makes it of its settings and the time."""

    def channel(its: ChannelSettings, equipment: Equipment) -> ConfiguredChannel:
        from trio_alerts.channels.http import HttpChannel  # noqa: PLC0415, trio: whoever only reads settings needs none

        return HttpChannel(its.name, service(its, equipment.now), equipment.transport)

    return ChannelKind(settings, channel)


def judge_status(answer: AnswerParser, kept: str, now: Callable[[], dt.datetime]) -> Outcome:
    """Go by the status of an answer, and by its `Retry-After`."""
    outcome = classify_status(answer.status, kept)
    if isinstance(outcome, Retry):
        return replace(outcome, after_s=_wait_asked(answer, now()))
    return outcome


def later(answer: AnswerParser, kept: str, now: dt.datetime, otherwise_s: float) -> Later:
    """Return the outcome of a limit; the service names its time, or `otherwise_s` holds."""
    asked_s = _wait_asked(answer, now)
    after_s = min(max(otherwise_s if asked_s is None else asked_s, SHORTEST_LIMIT_S), LONGEST_LIMIT_S)
    return Later(f"limited: answered {answer.status}", after_s, answer.status, kept)


def forbidden_address(host: str, networks: AllowedNetworks) -> Iterator[str]:
    """Say so if the address in a URL is one that nothing can ever be sent to."""
    address = literal_address(host)
    refusal = address and networks.refusal(str(address))
    if refusal:
        yield f"nothing can ever be sent to {address} ({refusal}); see the setting networks"


def _wait_asked(answer: AnswerParser, now: dt.datetime) -> float | None:
    asked = [value.decode("latin-1") for name, value in answer.headers if name == b"retry-after"]
    return parse_retry_after(asked, now) if asked else None
