import datetime as dt

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.support.services import http
from tests.support.services.limit import Limit
from tests.support.services.slack import SlackStandIn, seen
from trio_alerts.channels.http_service import Judgement
from trio_alerts.channels.slack import Slack, SlackSettings
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Accepted, Later, Malformed, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url

TOKEN = "xoxb-1234567890-marker"
ROOM = "C024BE91L"


def bot(token: str = TOKEN, room: str = ROOM) -> Slack:
    return Slack(SlackSettings(name="desk", token=Secret(token), room=room), lambda: dt.datetime.now(dt.UTC))


def hook(path: str = "/hook/s3cret") -> Slack:
    settings = SlackSettings(name="desk", url=parse_receiver_url(f"https://hooks.example.org{path}"))
    return Slack(settings, lambda: dt.datetime.now(dt.UTC))


def message(plain: bool = False, **event: object) -> Message:
    return Message("17-0", msgspec.json.encode({"title": "x", "severity": "high"} | event), plain=plain)


def judged(service: Slack, answer: bytes) -> Judgement:
    parser = AnswerParser(65_536)
    parser.feed(answer)
    return service.judge(parser, "kept")


def says(error: str) -> bytes:
    """Slack's answer to a bot."""
    return http.json(200, {"ok": False, "error": error})


def posted(slack: SlackStandIn, service: Slack, sent: Message) -> Judgement:
    return judged(service, slack.answer(service.render(sent)))


def test_what_slack_took_has_its_time_stamp() -> None:
    """It is the message's name in Slack, for whoever wants to find it."""
    assert Accepted(200, "kept", "1503435956.000001") == posted(SlackStandIn(TOKEN, ROOM), bot(), message())


@pytest.mark.parametrize("service", [bot(), hook()])
@pytest.mark.parametrize("plain", [False, True])
def test_the_longest_alert_is_taken(service: Slack, plain: bool) -> None:
    """Every text is cut in Slack's unit, before it is escaped."""
    slack = SlackStandIn(TOKEN, ROOM)
    long = "<&💥" * 30_000
    event = {
        "description": long,
        "labels": {f"l{n}": long[:1000] for n in range(64)},
        "links": ["https://a.b/" + "c" * 9000] * 30,
    }

    assert isinstance(posted(slack, service, message(plain, title=long, view=long, **event)), Accepted)


@pytest.mark.parametrize("cut", [False, True])
def test_a_message_whose_echo_is_too_long_to_read_is_taken_all_the_same(cut: bool) -> None:
    """Else it would be posted again and again: Slack repeats it in its answer, six bytes for many a character."""
    answer = http.json(200, {"ok": True, "ts": "1503435956.000001", "message": {"text": "x" * 70_000}})
    parser = AnswerParser(65_536)
    parser.feed(answer[: len(answer) - 20_000] if cut else answer)

    assert Accepted(200, "kept", "1503435956.000001") == bot().judge(parser, "kept")


def test_facts_stand_a_line_each() -> None:
    """However long one is."""
    slack = SlackStandIn(TOKEN, ROOM)
    posted(slack, bot(), message(view="v" * 400, scope="prod"))

    assert "…\nscope: prod\n" in seen(slack.posted[0])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("text", ["<!channel> @everyone @here <@U1> &lt; *b* <https://evil.example|ok>"])
def test_no_mention_and_no_link_comes_from_an_alert(plain: bool, text: str) -> None:
    """The text is literal in blocks and escaped elsewhere; nothing is unfurled, and people see it as it was."""
    slack = SlackStandIn(TOKEN, ROOM)
    posted(slack, bot(), message(plain, title=text, description=text))
    [taken] = slack.posted

    assert text in seen(taken)
    assert "<" not in taken["text"]
    assert (False, False, False, "none", False) == tuple(
        taken[name] for name in ("unfurl_links", "unfurl_media", "mrkdwn", "parse", "link_names")
    )


@pytest.mark.parametrize(
    ("error", "stop"),
    [
        *(
            (one, True)
            for one in ("invalid_auth", "token_revoked", "channel_not_found", "is_archived", "missing_scope")
        ),
        ("never_heard_of", False),
    ],
)
def test_what_a_human_must_put_right_is_tried_again(error: str, stop: bool) -> None:
    """The alert is not to blame: it is kept, and an error says what Slack said; what is known to hold for all stops."""
    slack = SlackStandIn(TOKEN, ROOM)
    slack.error = error

    expected = Retry(f"Slack said {error}", 200, answer="kept", needs_human=True, stop=stop)
    assert expected == posted(slack, bot(), message())


@pytest.mark.parametrize(
    ("service", "error"), [(bot("xoxb-wrong-token"), "invalid_auth"), (bot(room="C0"), "channel_not_found")]
)
def test_a_wrong_setting_is_told_in_slacks_words(service: Slack, error: str) -> None:
    """A token that is not one, a room that is gone."""
    outcome = posted(SlackStandIn(TOKEN, ROOM), service, message())

    assert isinstance(outcome, Retry)
    assert (f"Slack said {error}", True, False) == (outcome.reason, outcome.needs_human, outcome.unseen)


@pytest.mark.parametrize(
    ("service", "answer", "outcome"),
    [
        (bot(), says("internal_error"), Retry("Slack said internal_error", 200, unseen=True, answer="kept")),
        (bot(), says("fatal_error"), Retry("Slack said fatal_error", 200, unseen=True, answer="kept")),
        (bot(), says("service_unavailable"), Retry("Slack said service_unavailable", 200, answer="kept")),
        (bot(), says("msg_too_long"), Malformed("Slack said msg_too_long", 200, "kept")),
        (bot(), says("ratelimited"), Later("limited: answered 200", 30.0, 200, "kept")),
        (bot(), http.json(429, {}, retry_after="7"), Later("limited: answered 429", 7.0, 429, "kept")),
        (bot(), http.json(429, {}, retry_after="9999999"), Later("limited: answered 429", 3600.0, 429, "kept")),
        (bot(), http.json(429, {}, retry_after="0"), Later("limited: answered 429", 1.0, 429, "kept")),
        (
            bot(),
            http.json(429, {}, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"),
            Later("limited: answered 429", 1.0, 429, "kept"),
        ),
        (bot(), http.text(200, "<html>log in"), Retry("answered without Slack's JSON", 200, None, True, "kept", True)),
        (bot(), http.text(502, "bad gateway"), Retry("answered 502", 502, unseen=True, answer="kept")),
        (bot(), http.text(503, "busy", retry_after="9"), Retry("answered 503", 503, 9.0, True, "kept")),
        (bot(), says("x" * 101), Retry("Slack said no", 200, answer="kept", needs_human=True)),
        (hook(), says("x" * 101), Retry("Slack said no", 200, answer="kept", needs_human=True)),
        (hook(), http.json(200, {"ok": False}), Retry("Slack said no", 200, answer="kept", needs_human=True)),
        (hook(), http.text(200, "ok"), Accepted(200, "kept")),
        (hook(), http.text(404, "no_service"), Retry("Slack said no_service", 404, None, False, "kept", True, True)),
        (
            hook(),
            http.text(403, "action_prohibited"),
            Retry("Slack said action_prohibited", 403, None, False, "kept", True, True),
        ),
        (hook(), http.text(410, "gone"), Retry("refused with 410", 410, answer="kept", needs_human=True)),
        (hook(), http.text(400, "invalid_payload"), Malformed("Slack said invalid_payload", 400, "kept")),
        (hook(), http.text(400, "bad"), Malformed("refused with 400", 400, "kept")),
    ],
)
def test_slacks_own_word_decides(service: Slack, answer: bytes, outcome: Judgement) -> None:
    """A status of 200 says nothing by itself, and nothing is ever lost without a try in plain text."""
    assert outcome == judged(service, answer)


@pytest.mark.parametrize("text", ["[]", '"x"', '{"ok": 1}', '{"error": 5}', "{" * 5000, ""])
def test_an_answer_that_is_none_loses_nothing(text: str) -> None:
    """Whoever answers so is not Slack."""
    assert not isinstance(judged(bot(), http.text(200, text)), Accepted | Refused | Malformed)


async def test_a_limit_is_told_by_the_stand_in(mock_clock: MockClock) -> None:
    """One message a second and a burst of three, as the service documents it."""
    slack = SlackStandIn(TOKEN, ROOM)
    slack.limit = Limit(every_s=1.0, burst=3)
    outcomes = [posted(slack, bot(), message()) for _ in range(4)]
    mock_clock.jump(1.0)
    await trio.lowlevel.checkpoint()

    assert [Accepted, Accepted, Accepted, Later] == [type(outcome) for outcome in outcomes]
    assert isinstance(posted(slack, bot(), message()), Accepted)


def test_a_repeat_says_so() -> None:
    """Nobody saw whether the first one arrived."""
    slack = SlackStandIn(TOKEN, ROOM)
    posted(slack, bot(), msgspec.structs.replace(message(), may_be_repeat=True))

    assert "may be a repeat" in seen(slack.posted[0])
