"""Matchers: how they are written, what they match, and which are refused."""

import datetime as dt
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.event import AlertEvent
from trio_alerts.routing.matchers import field_value, is_possible, parse_matcher

EVENT = AlertEvent(
    alert_id="a-1",
    rule_id="liquidation-risk",
    view="Lending desk",
    scope="staging-eu",
    severity="high",
    title="Liquidation risk",
    occurred_at=dt.datetime(2026, 11, 16, tzinfo=dt.UTC),
    chain_id=10,
    addresses=["0xAbC1", "0xdef2"],
    labels={"team": "risk desk", "app.kubernetes.io/name": "engine", "empty": "", "a b=c": "odd", "star": "a*b"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('view = "Lending desk"', True),
        ('view="Lending desk"', True),
        ("view = Lending*", True),
        ("view = lending*", False),
        ('view = "Lending"', False),
        ('view != "Lending"', True),
        ('scope != "staging*"', False),
        ("scope = stag?ng-??", True),
        ("scope = ?", False),
        ("severity >= high", True),
        ("severity > high", False),
        ("severity <= high", True),
        ("severity < critical", True),
        ("severity = high", True),
        ("severity = h*", True),
        ("severity not in [info, low]", True),
        ("status = firing", True),
        ("status != firing", False),
        ('labels.team in [treasury, "risk desk"]', True),
        ("labels.team in [ treasury ]", False),
        ("labels.team in[risk*]", True),
        ("labels.team  not  in [treasury]", True),
        ("labels.env not in [dev]", True),
        ("labels.env = dev", False),
        ('labels.env = ""', True),
        ('labels.env != ""', False),
        ('labels.team != ""', True),
        ('labels.empty = ""', True),
        ("labels.env = *", True),
        ("labels.app.kubernetes.io/name = engine", True),
        ('labels."a b=c" = odd', True),
        (r'labels.star = "a\*b"', True),
        (r"labels.star = a\?b", False),
        (r"labels.team = risk\*", False),
        ("chain_id = 10", True),
        ("chain_id in [1, 100]", False),
        ('chain_id != ""', True),
        ("addresses = 0xABC1", True),
        ("addresses = 0xABC?", True),
        ("addresses != 0xdef2", False),
        ("addresses not in [0x1, 0x2]", True),
        ('contract = ""', True),
    ],
)
def test_a_matcher_says_what_it_looks_like(text: str, expected: bool) -> None:
    """Operators, lists, quotes, wildcards, escapes; an absent field is empty text; one address of several is enough."""
    assert expected == parse_matcher(text).matches(EVENT)


HOW = "write FIELD = VALUE, FIELD in [VALUE, VALUE] or severity >= VALUE"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("severity >= hihg", "no alert has the severity 'hihg'; it is one of info, low, medium, high, critical"),
        ("severity = x*", "no alert has such a severity: it is one of info, low, medium, high, critical"),
        ("severity > critical", "no alert has a severity > critical"),
        ("severity >= h*", "there can be no wildcard here"),
        ("labels.score > 3", "> compares severities; labels.score has no order"),
        ("status = open", "no alert has the status 'open'"),
        ("scop = a", "there is no field 'scop' to match (did you mean 'scope'?)"),
        ("title = a", "there is no field 'title' to match"),
        ("team = a", "there is no field 'team' to match; a label is written labels.NAME"),
        ("labels. = a", "there is no field 'labels.' to match"),
        ('labels."" = a', "there is no field 'labels.' to match"),
        ('view = ""', "no alert has the view ''"),
        ("chain_id = ten", "no alert has the chain_id 'ten'"),
        ("chain_id = 007", "no alert has the chain_id '007'"),
        ("chain_id = 1*", "chain_id is a whole number: it takes no wildcards"),
        ("schema_version = 2", "no alert has the schema_version '2'"),
        (f"view = {'x' * 513}", "no alert has the view 'xxx"),
        ("view =~ a.*", "there are no regular expressions: use = or != with the wildcards * and ?"),
        ("view == a", "write = instead of =="),
        (r'view = "a\n"', r'\n means nothing: a backslash precedes only " \ * ?'),
        ("view", HOW),
        ("", HOW),
        ("view = ", HOW),
        ("view = Lending desk", HOW),
        ('view = "Lending', HOW),
        ("view in a", HOW),
        ("view in []", HOW),
        ("view in [a", HOW),
        ("view in [a,]", HOW),
        ("view in [a b]", HOW),
        ("view = [a]", HOW),
        ("viewin [a]", HOW),
        ("= a", HOW),
    ],
)
def test_a_wrong_matcher_is_refused(text: str, problem: str) -> None:
    """What cannot be read, and what no alert can ever be, is refused in one sentence that shows it."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_matcher(text)

    assert str(caught.value).startswith(f"{text!r}: ")
    assert problem in str(caught.value)


@given(value=st.text(min_size=1, max_size=20))
def test_quoted_values_may_hold_anything(value: str) -> None:
    """Whatever the text of a label is, in quotes and escaped it is matched, and a character more is not."""
    escaped = "".join(f"\\{character}" if character in '"\\*?' else character for character in value)
    matcher = parse_matcher(f'labels.x = "{escaped}"')

    assert matcher.matches(msgspec.structs.replace(EVENT, labels={"x": value}))
    assert not matcher.matches(msgspec.structs.replace(EVENT, labels={"x": value + "."}))


@given(text=st.text(st.sampled_from(list('view scope=!<>~in not"\\[],*?.aé\n')), max_size=30))
def test_any_text_is_a_matcher_or_is_refused(text: str) -> None:
    """Nothing but a ValueError ever comes of a text."""
    with suppress(ValueError):
        parse_matcher(text).matches(EVENT)


def test_values_are_those_of_the_alert() -> None:
    """What is compared is what an alert can hold, addresses in lower case; an empty list is no address."""
    assert "10" == field_value(EVENT, "chain_id")
    assert ["0xabc1", "0xdef2"] == field_value(EVENT, "addresses")
    assert None is field_value(msgspec.structs.replace(EVENT, addresses=[]), "addresses")
    assert (True, False) == (is_possible("labels.x", "a" * 1024), is_possible("labels.x", "a" * 1025))
    assert (True, False) == (is_possible("schema_version", "1.2"), is_possible("schema_version", "1.x"))
