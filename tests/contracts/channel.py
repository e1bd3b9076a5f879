"""What every channel must do, whatever its service wants to read: one suite that runs on all of them.

A test module makes a class of it and says how its service answers, and where an alert stands in a request:

    class TestMyService(HttpContract):
        tested = TestedChannel(settings=lambda url: MySettings(name="pager", url=parse_receiver_url(url)), ...)
"""

import datetime as dt
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.raw_receiver import RawConnection, Script, answering, dead_port_on_loopback, raw_receiver
from tests.support.services import http
from trio_alerts.assembly import make_channel
from trio_alerts.channels.http import KEPT_ANSWER_BYTES
from trio_alerts.channels.registry import KINDS, load_kind
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import Channel, Message
from trio_alerts.settings.settings import ChannelSettings

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
ATTEMPT_S = 15.0
EVENT = {"alert_id": "a-1", "severity": "high", "title": "Position liquidatable", "view": "Lending"}

# What an alert may hold to look like something else: line ends, mark-up, mentions, direction marks, nothing at all.
HOSTILE = [
    'Ends here"}\r\nContent-Length: 0\r\n\r\nPOST /other HTTP/1.1\r\n',
    "<script>alert(1)</script> &amp; <!channel> @everyone *bold* `code` [link](http://evil.example)",
    "\u202eright to left\u202c zero\u200bwidth \ufeff nul\0 bell\a escape\x1b[31m",
    "💥" * 100,
    "",
]

# Every field with text in it that people are shown somewhere.
TEXTS = (
    *("title", "view", "scope", "rule_id", "alert_id", "source", "network", "protocol", "contract", "tx_hash"),
    "description",
)

Answer = bytes | Callable[[bytes], bytes]


@dataclass(frozen=True)
class TestedChannel:
    """A kind of channel, and its service as the tests stand in for it.

    Args:
        settings: Makes the settings of a channel to a URL or path, with a secret in everything that can hold one.
        secrets: These.
        read: Returns what people would read of the alert in a request, by field.
        accepts: An answer, as bytes, or made of the request: taken. (Services only, as what follows.)
        refuses: Never, whatever is waited for.
        fails: Not now.
        shows: What of these fields people are to read.
        answering: Makes a script of answers, one a request.
        take: Takes one whole request, and notes it.
        limits: Not before 90 seconds are over. (HTTP only, as what follows.)
        limited: The outcome of that.
        malformed: The service refuses the formatting, and takes the text alone; None: it has no such answer.
    """

    __test__ = False

    settings: Callable[[str], ChannelSettings]
    secrets: tuple[str, ...]
    read: Callable[[bytes], Mapping[str, Any]]
    accepts: Answer = b""
    refuses: bytes = b""
    fails: bytes = b""
    shows: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda fields: fields
    answering: Callable[..., Script] = answering
    take: Callable[[RawConnection], Awaitable[object]] = RawConnection.request
    limits: bytes = b""
    limited: type[Later | Retry] = Later
    malformed: bytes | None = None


def message(deadline: float, **fields: object) -> Message:
    return Message("1763900000000-0", msgspec.json.encode(EVENT | fields), deadline)


async def echo(connection: RawConnection) -> None:
    """Answer with the request, headers and all, again and again: what is kept of it ends somewhere."""
    request = await connection.request()
    assert request is not None
    status = int(request.partition(b"/echo/")[2][:3])
    said = request * (2 + KEPT_ANSWER_BYTES // len(request))
    await connection.say(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said))


class Cut(trio.abc.Instrument):
    """Cancels an attempt before it goes on for the so many-th time."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if not self.left:
                self.scope.cancel()


async def ends_before(step: int, channel: Channel) -> bool:
    """Make an attempt that is cancelled at a step of it; tell whether it had ended by then."""
    cut = Cut(step)
    trio.lowlevel.add_instrument(cut)
    try:
        with cut.scope:
            cut.task = trio.lowlevel.current_task()
            assert isinstance(await channel.send(message(trio.current_time() + ATTEMPT_S)), Accepted)
            return True
    finally:
        cut.task = None
        trio.lowlevel.remove_instrument(cut)
    return False


class ChannelContract:
    """What every channel must do, whatever it leads to."""

    tested: ClassVar[TestedChannel]

    def working(self) -> AbstractAsyncContextManager[tuple[Channel, Callable[[], list[bytes]]]]:
        """Open a channel whose other end accepts two alerts, and what tells what has arrived there."""
        raise NotImplementedError

    def test_its_kind_is_registered(self) -> None:
        """The settings of its kind are found by the name in the TOML file."""
        settings = self.tested.settings("http://127.0.0.1:9/hook")

        assert settings.kind in KINDS
        assert load_kind(settings.kind).settings is type(settings)

    async def test_an_alert_arrives_once(self) -> None:
        """One request an attempt, and in it what people read."""
        async with self.working() as (channel, arrived):
            outcome = await channel.send(message(trio.current_time() + ATTEMPT_S))

            assert isinstance(outcome, Accepted)
            [request] = arrived()
            assert self.tested.shows(EVENT).items() <= self.tested.read(request).items()

    @pytest.mark.parametrize("text", HOSTILE, ids=["ends", "mark-up", "hidden", "wide", "empty"])
    async def test_hostile_text_is_read_as_text(self, text: str) -> None:
        """In each field: it ends no line, no field and no request, and none of it is lost."""
        fields: dict[str, Any] = dict.fromkeys(TEXTS, text)
        more = {"labels": {"team": text, f"name {text}": "x"}, "links": [text]}
        async with self.working() as (channel, arrived):
            outcome = await channel.send(message(trio.current_time() + ATTEMPT_S, **fields, **more))

            assert isinstance(outcome, Accepted)
            [request] = arrived()
        read, shown = self.tested.read(request), dict(self.tested.shows(EVENT | fields | {"team": text}))
        assert read["description"].startswith(shown.pop("description", ""))  # links may follow it
        assert shown.items() <= read.items()

    async def test_an_attempt_can_be_cancelled_at_every_step(self) -> None:
        """Wherever that lands: nothing stays open, and the next attempt works."""
        step, ended = 0, False
        while not ended:
            step += 1
            async with self.working() as (channel, arrived):
                ended = await ends_before(step, channel)
                assert isinstance(await channel.send(message(trio.current_time() + ATTEMPT_S)), Accepted)
                assert 1 <= len(arrived()) <= 2

        assert step > 1  # it waited at least for the answer


class ServiceContract(ChannelContract):
    """What every channel to a service must do. Real connections on loopback, in virtual time."""

    @asynccontextmanager
    async def working(self) -> AsyncIterator[tuple[Channel, Callable[[], list[bytes]]]]:
        """See `ChannelContract`; no connection is left in use."""
        script = self.tested.answering(self.tested.accepts, self.tested.accepts)
        async with raw_receiver(script) as receiver, TrioTransport() as transport:
            yield self.channel(receiver.url, transport), lambda: receiver.requests
            assert "in_use=0 waiting=0" in repr(transport)

    async def hang_up(self, connection: RawConnection) -> None:
        """Take the whole request, and break the connection off."""
        await self.tested.take(connection)
        connection.reset()

    async def say_nothing(self, connection: RawConnection) -> None:
        """Take the whole request, and never answer."""
        await self.tested.take(connection)
        await trio.sleep_forever()

    async def stop_in_the_answer(self, connection: RawConnection) -> None:
        """Begin to answer, and say no more."""
        await self.tested.take(connection)
        await connection.say(b"HTTP/1.1 2")
        await trio.sleep_forever()

    async def attempt(self, script: Script) -> tuple[Outcome | Later, list[bytes]]:
        """Make one attempt; return its outcome, and the requests that arrived."""
        async with raw_receiver(script) as receiver, TrioTransport() as transport:
            outcome = await self.channel(receiver.url, transport).send(message(trio.current_time() + ATTEMPT_S))
        return outcome, receiver.requests

    def channel(self, url: str, transport: TrioTransport) -> Channel:
        """Make the channel as the program makes it."""
        return make_channel(self.tested.settings(url), transport, lambda: NOW)

    async def test_a_refusal_is_for_good(self) -> None:
        """Nothing is tried again, and a human is told."""
        outcome, requests = await self.attempt(self.tested.answering(self.tested.refuses, self.tested.refuses))

        assert isinstance(outcome, Refused)
        assert 1 + (self.tested.refuses == self.tested.malformed) == len(requests)

    async def test_a_failure_is_tried_again_by_the_schedule(self) -> None:
        """The channel itself repeats nothing, even on a connection that is still open."""
        outcome, requests = await self.attempt(self.tested.answering(self.tested.fails, self.tested.accepts))

        assert isinstance(outcome, Retry)
        assert outcome.after_s is None
        assert 1 == len(requests)

    async def test_a_connection_that_cannot_be_opened_is_seen_by_nobody(self) -> None:
        """Cut before the request: the attempt counts as failed, not as in doubt."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            async with TrioTransport() as transport:
                channel = self.channel(f"http://127.0.0.1:{unused.getsockname()[1]}/hook", transport)
                outcome = await channel.send(message(trio.current_time() + ATTEMPT_S))

        assert isinstance(outcome, Retry)
        assert not outcome.unseen

    async def test_a_connection_that_breaks_behind_the_request_leaves_a_doubt(self) -> None:
        """Cut after the request: the service may have the alert."""
        outcome, [_] = await self.attempt(self.hang_up)

        assert isinstance(outcome, Retry)
        assert outcome.unseen

    @pytest.mark.parametrize("end", ["cancelled", "too late"])
    @pytest.mark.parametrize("held", [None, "say_nothing", "stop_in_the_answer"])
    async def test_an_attempt_can_end_at_every_await(self, end: str, held: str | None, mock_clock: MockClock) -> None:
        """Nothing stays open; what is too late says whether the service may have the alert, and the next works."""
        ended: list[object] = []
        holds: Script | None = getattr(self, held) if held else None

        async def attempt(channel: Channel, deadline: float) -> None:
            try:
                ended.append(await channel.send(message(deadline)))
            except trio.TooSlowError:
                ended.append(trio.TooSlowError)
            except trio.Cancelled:
                ended.append(trio.Cancelled)
                raise

        async def script(connection: RawConnection) -> None:
            await (holds if holds and receiver.connections == 1 else self.tested.answering(self.tested.accepts))(
                connection
            )

        with dead_port_on_loopback() as dead_port:
            async with raw_receiver(script) as receiver, TrioTransport(connect_timeout_s=60) as transport:
                url = receiver.url if holds else f"http://127.0.0.1:{dead_port}/hook"
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(attempt, self.channel(url, transport), trio.current_time() + ATTEMPT_S)
                    while holds:
                        await trio.lowlevel.checkpoint()
                        if receiver.requests:
                            break
                    await wait_all_tasks_blocked(0.01)
                    if end == "cancelled":
                        nursery.cancel_scope.cancel()
                    else:
                        mock_clock.jump(ATTEMPT_S + 1)
                assert "<TrioTransport idle=0 in_use=0 waiting=0 origins=0>" == repr(transport)
                again = await self.channel(receiver.url, transport).send(message(trio.current_time() + ATTEMPT_S))

        assert isinstance(again, Accepted)
        [first] = ended
        if end == "cancelled":
            assert trio.Cancelled is first
        elif holds:
            assert trio.TooSlowError is first
        else:
            assert isinstance(first, Retry)
            assert not first.unseen
            assert first.reason.endswith("; nothing was sent")


class HttpContract(ServiceContract):
    """What every channel over HTTP must do besides."""

    async def test_a_limit_says_how_long_to_wait(self) -> None:
        """The service took nothing, and named the time."""
        outcome, _ = await self.attempt(answering(self.tested.limits))

        assert isinstance(outcome, self.tested.limited)
        assert (90.0, False) == (outcome.after_s, outcome.unseen)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, status: int) -> None:
        """Whoever answers must not choose where we connect to, or who else gets the alert."""
        async with raw_receiver(answering(self.tested.accepts)) as elsewhere:
            head = f"HTTP/1.1 {status} Elsewhere\r\nlocation: {elsewhere.url}/\r\ncontent-length: 0\r\n\r\n"
            outcome, requests = await self.attempt(answering(head.encode(), self.tested.accepts))

        assert ([], 1) == (elsewhere.requests, len(requests))
        assert isinstance(outcome, Retry)

    async def test_no_alert_says_where_it_goes(self) -> None:
        """An alert is what is sent; the address is the channel's alone, whatever links and templates are in there."""
        lure = "http://169.254.169.254/${HOME}/{{secret}}/%(url)s?{0}"
        names = ("url", "webhook_url", "channel", "room", "host", "to", "headers", "redirect", "icon_url")
        details = dict.fromkeys(names, lure)
        lured = {**dict.fromkeys(TEXTS, lure), **details, "links": [lure], "labels": details, "details": details}
        answers = [self.tested.accepts, self.tested.accepts]
        async with raw_receiver(self.tested.answering(*answers)) as receiver, TrioTransport() as transport:
            channel = self.channel(receiver.url, transport)
            for fields in ({}, lured):
                assert isinstance(await channel.send(message(trio.current_time() + ATTEMPT_S, **fields)), Accepted)

        usual, other = (request.partition(b"\r\n\r\n")[0].split(b"\r\n") for request in receiver.requests)
        varying = (b"content-length", b"webhook-signature", b"webhook-timestamp", b"traceparent", b"ce-")
        assert [line for line in usual if not line.lower().startswith(varying)] == [
            line for line in other if not line.lower().startswith(varying)
        ]

    async def test_what_is_malformed_is_sent_once_more_as_plain_text(self) -> None:
        """The service said no to the formatting, so nobody has it yet; no mistake in it costs an alert."""
        if self.tested.malformed is None:
            return
        outcome, [_, request] = await self.attempt(answering(self.tested.malformed, self.tested.accepts))

        assert isinstance(outcome, Accepted)
        assert EVENT["title"] == self.tested.read(request)["title"]

    async def test_what_is_malformed_twice_is_refused(self) -> None:
        """The text alone is all that is left to try."""
        if self.tested.malformed is None:
            return
        outcome, requests = await self.attempt(answering(self.tested.malformed, self.tested.malformed))

        assert isinstance(outcome, Refused)
        assert 2 == len(requests)

    @pytest.mark.parametrize("status", [200, 302, 404, 410, 503])
    async def test_no_secret_gets_out(self, status: int) -> None:
        """Not by an answer that repeats the request, nor by what is printed of the channel and its settings."""
        async with raw_receiver(echo) as receiver, TrioTransport() as transport:
            settings = self.tested.settings(f"{receiver.url}/echo/{status}")
            channel = make_channel(settings, transport, lambda: NOW)
            outcome = await channel.send(message(trio.current_time() + ATTEMPT_S))
            preview = channel.preview(message(0.0))

        shown = repr((outcome, channel, settings, settings.destination, preview))
        assert status == outcome.status
        assert "***" in outcome.answer
        assert [] == [secret for secret in self.tested.secrets if secret in shown]
        assert [] != [secret for secret in self.tested.secrets if secret.encode() in receiver.requests[0]]

    @pytest.mark.parametrize("status", [200, 400, 500])
    @pytest.mark.parametrize("ok", [True, False])
    async def test_no_secret_gets_out_by_what_is_quoted_of_an_answer(self, ok: bool, status: int) -> None:
        """An error in the service's words, or what it calls the message: whatever it says in these fields.

        Not half of one either, where a text is too long.
        """
        for secret in self.tested.secrets:
            for text in (f"no {secret}", f"{'x' * (100 - len(secret) // 2)}{secret}"):
                said = {"ok": ok, **dict.fromkeys(("error", "message", "status", "ts", "dedup_key"), text)}
                outcome, _ = await self.attempt(self.tested.answering(*[http.json(status, said)] * 2))

                assert secret not in repr(outcome)
                assert f"x{secret[: len(secret) // 2]}" not in repr(outcome)
