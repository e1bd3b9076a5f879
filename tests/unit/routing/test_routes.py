"""Where alerts go: which route matches, and which configurations are refused because alerts would go nowhere."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.errors import SettingsError
from trio_alerts.event import AlertEvent
from trio_alerts.routing.routes import MATCH_FIELDS, Deliver, Routing, Suppress
from trio_alerts.settings.settings import ChannelSettings, RouteSettings, Settings

FIELDS: Mapping[str, object] = {
    "view": "vault:stETH",
    "scope": "mainnet",
    "rule_id": "liquidation-risk",
    "alert_id": "a-1",
    "severity": "high",
    "title": "Liquidation risk",
    "occurred_at": "2026-11-16T00:05:02Z",
    "chain_id": 1,
    "network": "ethereum",
    "addresses": ["0xAbC1", "0xdef2"],
    "contract": "0xAAbb",
    "labels": {"team": "risk", "app.kubernetes.io/name": "engine"},
}


def alert(**fields: object) -> AlertEvent:
    return msgspec.convert({**FIELDS, **fields}, AlertEvent)


ALERT = alert()


def channel(name: str) -> ChannelSettings:
    return ChannelSettings(name=name)


def route(
    name: str = "some",
    match: Mapping[str, tuple[str, ...]] | None = None,
    channels: tuple[str, ...] = (),
    *,
    suppress: bool = False,
) -> RouteSettings:
    return RouteSettings(name=name, match=match or {}, channels=channels, suppress=suppress)


def routing(*routes: RouteSettings, channels: tuple[str, ...] = ("page", "chat")) -> Routing:
    return Routing(Settings(channels=tuple(channel(name) for name in channels), routes=routes))


def test_without_routes_every_channel_gets_every_alert() -> None:
    """With no routes an alert goes to all channels, in their order."""
    assert Deliver(("page", "chat")) == routing().decide(ALERT)


def test_the_first_matching_route_decides() -> None:
    """Routes are tried in their order, and those after the first match have no say."""
    routes = routing(
        route("high", {"severity": ("high",)}, ("page",)),
        route("mainnet", {"scope": ("mainnet",)}, ("chat",)),
        route("rest", channels=("page", "chat")),
    )

    assert Deliver(("page",)) == routes.decide(ALERT)
    assert Deliver(("chat",)) == routes.decide(alert(severity="low"))
    assert Deliver(("page", "chat")) == routes.decide(alert(severity="low", scope="testnet"))


def test_a_suppressing_route_is_named() -> None:
    """What a suppressing route matches is sent nowhere, and the decision names the route, the last one included."""
    routes = routing(
        route("testnet is noise", {"scope": ("testnet",)}, suppress=True),
        route("page", {"severity": (">=low",)}, ("page", "chat")),
        route("the rest", suppress=True),
    )

    assert Suppress("testnet is noise") == routes.decide(alert(scope="testnet"))
    assert Deliver(("page", "chat")) == routes.decide(ALERT)
    assert Suppress("the rest") == routes.decide(alert(severity="info"))


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"view": ("vault:stETH",)}, True),
        ({"view": ("vault:steth",)}, False),
        ({"view": ("vault",)}, False),
        ({"scope": ("testnet", "mainnet")}, True),
        ({"scope": ("mainnet",), "rule_id": ("other",)}, False),
        ({"scope": ("mainnet",), "rule_id": ("liquidation-risk",)}, True),
        ({"chain_id": ("1",)}, True),
        ({"chain_id": ("10",)}, False),
        ({"protocol": ("aave",)}, False),
        ({"protocol": ("None",)}, False),
        ({"severity": (">=high",)}, True),
        ({"severity": (">= medium",)}, True),
        ({"severity": (">=critical",)}, False),
        ({"severity": (">=critical", "high")}, True),
        ({"severity": ("info",)}, False),
        ({"status": ("firing",)}, True),
        ({"status": ("resolved",)}, False),
        ({"addresses": ("0xABC1",)}, True),
        ({"addresses": ("0xdef2", "0x0")}, True),
        ({"addresses": ("0x0",)}, False),
        ({"contract": ("0xaaBB",)}, True),
        ({"labels.team": ("risk",)}, True),
        ({"labels.team": ("Risk",)}, False),
        ({"labels.app.kubernetes.io/name": ("engine",)}, True),
        ({"labels.absent": ("risk",)}, False),
    ],
)
def test_every_field_of_match_must_have_one_of_its_values(match: Mapping[str, tuple[str, ...]], expected: bool) -> None:
    """A route matches if each field equals one of its values: exactly, but addresses in any case, severity by rank."""
    routes = routing(route("it", match, ("page",)), route("rest", channels=("chat",)))

    assert Deliver(("page",) if expected else ("chat",)) == routes.decide(ALERT)


def test_an_alert_says_its_status_itself_if_it_has_one() -> None:
    """Only an alert without a status counts as firing."""
    routes = routing(route("firing", {"status": ("firing",)}, ("page",)), route("rest", channels=("chat",)))

    assert Deliver(("chat",)) == routes.decide(alert(status="resolved"))


def test_an_alert_without_labels_matches_no_label() -> None:
    """A route on a label passes over an alert that has no labels at all."""
    routes = routing(route("team", {"labels.team": ("risk",)}, ("page",)), route("rest", channels=("chat",)))

    assert Deliver(("chat",)) == routes.decide(alert(labels=None))


def test_match_fields_are_fields_of_the_alert() -> None:
    """Each field that a route may ask for exists in an alert: a renamed field cannot leave dead routes behind."""
    assert set(MATCH_FIELDS) <= set(AlertEvent.__struct_fields__)


REST = route("rest", channels=("page", "chat"))


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ([route("high", {"severity": ("high",)}, ("page", "chat"))], "route 'high' is the last"),
        ([route("r", {"scope": ("a",)}, ("pager",)), REST], "there is no channel 'pager' (did you mean 'page'?)"),
        ([route("r", {"scope": ("a",)}, ("zzz",)), REST], "route 'r' (number 1): there is no channel 'zzz'"),
        ([route("r", {"scope": ("a",)}), REST], "route 'r' (number 1): it leads nowhere"),
        ([route("r", {"scope": ("a",)}, ("page",), suppress=True), REST], "keep one of them"),
        ([route("r", {"scop": ("a",)}, ("page",)), REST], "match cannot ask for 'scop' (did you mean 'scope'?)"),
        ([route("r", {"title": ("a",)}, ("page",)), REST], "match cannot ask for 'title'"),
        ([route("r", {"label.team": ("a",)}, ("page",)), REST], "'label.team' (did you mean 'labels.'?)"),
        ([route("r", {"labels.": ("a",)}, ("page",)), REST], "match cannot ask for 'labels.'"),
        ([route("r", {"delivery.state": ("a",)}, ("page",)), REST], "match cannot ask for 'delivery.state'"),
        ([route("r", {"severity": ("hihg",)}, ("page",)), REST], "no alert has the severity 'hihg'"),
        ([route("r", {"severity": (">=severe",)}, ("page",)), REST], "no alert has the severity '>=severe'"),
        ([route("r", {"severity": (">high",)}, ("page",)), REST], "no alert has the severity '>high'"),
        ([route("r", {"status": ("open",)}, ("page",)), REST], "no alert has the status 'open'"),
        ([REST, route("late", {"scope": ("a",)}, ("page",)), route("end", suppress=True)], "'rest' (number 1): it ma"),
        ([route("rest", {"scope": ("a",)}, ("page",)), REST], "two routes are named 'rest'"),
        ([route("rest", channels=("page",))], "channel 'chat' is used by no route"),
        ([route("rest", suppress=True)], "channel 'page' is used by no route"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(routes: list[RouteSettings], problem: str) -> None:
    """A route that drops alerts, never matches or is never reached is refused, and so is a channel without a route."""
    with pytest.raises(SettingsError) as caught:
        routing(*routes)

    assert problem in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    """Every problem has a line of its own, and nothing else is complained about."""
    with pytest.raises(SettingsError) as caught:
        routing(route("a", {"vew": ("x",), "severity": ("x",)}, ("pagr",)), route("b", channels=("page", "chat")))

    assert [
        "route 'a' (number 1): there is no channel 'pagr' (did you mean 'page'?)",
        "route 'a' (number 1): match cannot ask for 'vew' (did you mean 'view'?)",
        "route 'a' (number 1): no alert has the severity 'x'",
    ] == str(caught.value).splitlines()


VALUES = st.sampled_from(["a", "b", "c"])
MATCHES = st.dictionaries(
    st.sampled_from(["view", "scope", "labels.a"]), st.lists(VALUES, min_size=1, max_size=2).map(tuple), min_size=1
)


@given(matches=st.lists(MATCHES, max_size=5), view=VALUES, scope=VALUES, label=VALUES)
def test_any_routes_decide_like_the_plain_rule(
    matches: list[dict[str, tuple[str, ...]]], view: str, scope: str, label: str
) -> None:
    """For any routes and any alert the decision is that of the first route all of whose fields have the value."""
    routes = [route(f"r{number}", match, suppress=True) for number, match in enumerate(matches)]
    seen = {"view": view, "scope": scope, "labels.a": label}

    matching = [r.name for r in routes if all(seen[field] in values for field, values in r.match.items())]
    decision = routing(*routes, REST).decide(alert(view=view, scope=scope, labels={"a": label}))

    assert (Suppress(matching[0]) if matching else Deliver(("page", "chat"))) == decision
