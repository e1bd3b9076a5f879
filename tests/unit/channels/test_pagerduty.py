import datetime as dt
import hashlib

import msgspec
import pytest

from tests.support.services import http
from tests.support.services.pagerduty import PagerDutyStandIn
from trio_alerts.channels.http_service import Judgement
from trio_alerts.channels.pagerduty import PagerDuty, PagerDutySettings
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Accepted, Later, Malformed, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.secret import Secret

KEY = "0123456789abcdef0123456789abcdef"


def pager(key: str = KEY) -> PagerDuty:
    return PagerDuty(PagerDutySettings(name="pager", routing_key=Secret(key)), lambda: dt.datetime.now(dt.UTC))


def message(**event: object) -> Message:
    return Message("17-0", msgspec.json.encode({"title": "x", "severity": "high"} | event))


def judged(answer: bytes) -> Judgement:
    parser = AnswerParser(65_536)
    parser.feed(answer)
    return pager().judge(parser, "kept")


def sent(**event: object) -> dict[str, object]:
    """Send one event; return it as PagerDuty took it."""
    service = PagerDutyStandIn(KEY)
    assert isinstance(judged(service.answer(pager().render(message(**event)))), Accepted)
    return service.events[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("critical", "critical"),
        ("high", "error"),
        ("medium", "warning"),
        ("low", "info"),
        ("info", "info"),
        ("odd", "error"),
    ],
)
def test_each_severity_is_one_of_theirs(ours: str, theirs: str) -> None:
    """Only four are taken."""
    payload = sent(severity=ours)["payload"]

    assert isinstance(payload, dict)
    assert theirs == payload["severity"]


@pytest.mark.parametrize(
    ("fingerprint", "key"),
    [
        ("position-7", "position-7"),
        ("", "17-0"),
        (None, "17-0"),
        ("é" * 128, hashlib.sha256(("é" * 128).encode()).hexdigest()),
    ],
)
def test_alerts_of_one_fingerprint_are_one_incident(fingerprint: str | None, key: str) -> None:
    """Else each record is its own; a fingerprint that is too long stands for itself by its hash."""
    assert key == sent(fingerprint=fingerprint)["dedup_key"]


def test_the_largest_alert_is_taken() -> None:
    """Texts are cut to their limits; details that would be too large are left out."""
    long = "💥" * 60_000
    labels = {f"l{n}": "x" * 1024 for n in range(64)}
    event = sent(title=long, description=long * 3, scope=long, rule_id=long, labels=labels, links=[f"https://a/{long}"])

    assert "custom_details" not in str(event)
    assert "custom_details" in str(sent(title=long, description=long))


def test_what_is_refused_goes_without_details() -> None:
    """The summary reaches whoever is on call."""
    service = PagerDutyStandIn(KEY)
    service.details = False
    rich = message(title="t", links=["https://a.b/"], view="Lending")

    assert Malformed("refused with 400", 400, "kept") == judged(service.answer(pager().render(rich)))
    plain = msgspec.structs.replace(rich, plain=True)
    assert Accepted(202, "kept", "17-0") == judged(service.answer(pager().render(plain)))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http.json(202, {"dedup_key": "k"}), Accepted(202, "kept", "k")),
        (http.text(202, "not JSON"), Accepted(202, "kept")),
        (http.text(429, ""), Later("limited: answered 429", 60.0, 429, "kept")),
        (http.text(413, ""), Refused("refused with 413", 413, "kept")),
        (http.text(500, ""), Retry("answered 500", 500, unseen=True, answer="kept")),
        (http.text(503, "", retry_after="9"), Retry("answered 503", 503, 9.0, unseen=True, answer="kept")),
        (http.text(403, ""), Retry("answered 403", 403, answer="kept", needs_human=True)),
    ],
)
def test_the_status_decides(answer: bytes, outcome: Judgement) -> None:
    """As the Events API documents it."""
    assert outcome == judged(answer)


def test_a_wrong_key_loses_nothing() -> None:
    """PagerDuty calls the event invalid, but no alert is to blame: a human corrects the key, and all arrive."""
    answer = PagerDutyStandIn(KEY).answer(pager("f" * 32).render(message()))

    reason = "PagerDuty does not know the routing key"
    assert Retry(reason, 400, answer="kept", needs_human=True, stop=True) == judged(answer)
