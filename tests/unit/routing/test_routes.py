"""Where alerts go: which route matches, and which configurations are refused because alerts would go nowhere."""

import datetime as dt
from collections.abc import Mapping

import msgspec
import pytest

from trio_alerts.errors import SettingsError
from trio_alerts.event import AlertEvent
from trio_alerts.routing.matchers import MATCH_FIELDS
from trio_alerts.routing.proof import Proof
from trio_alerts.routing.route import Fallback
from trio_alerts.routing.routes import Decision, Deliver, Routing, Suppress
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
NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)  # a Thursday
OFFICE = {"days": ["mon-fri"], "from": "08:00", "to": "18:00", "tz": "Europe/Zurich"}


def channel(name: str) -> ChannelSettings:
    return ChannelSettings(name=name)


def route(
    name: str = "some",
    match: Mapping[str, tuple[str, ...]] | None = None,
    channels: tuple[str, ...] = (),
    *matchers: str,
    suppress: bool = False,
    continues: bool = False,
    active: tuple[Mapping[str, object], ...] = (),
    fallback: tuple[str, ...] = (),
    after_s: float | None = None,
) -> RouteSettings:
    return RouteSettings(
        name=name,
        match=match or {},
        channels=channels,
        matchers=matchers,
        suppress=suppress,
        continues=continues,
        active=active,
        fallback=fallback,
        fallback_after_s=after_s,
    )


def routing(*routes: RouteSettings, channels: tuple[str, ...] = ("page", "chat")) -> Routing:
    return Routing(Settings(channels=tuple(channel(name) for name in channels), routes=routes))


def decide(routes: Routing, event: AlertEvent = ALERT, now: dt.datetime = NOW) -> Decision:
    return routes.decide(event, now)


def test_without_routes_every_channel_gets_every_alert() -> None:
    """With no routes an alert goes to all channels, in their order."""
    assert Deliver(("page", "chat")) == decide(routing())


def test_the_first_matching_route_decides() -> None:
    """Routes are tried in their order, and those after the first match have no say."""
    routes = routing(
        route("high", {"severity": ("high",)}, ("page",)),
        route("mainnet", {"scope": ("mainnet",)}, ("chat",)),
        route("rest", channels=("page", "chat")),
    )

    assert Deliver(("page",)) == decide(routes)
    assert Deliver(("chat",)) == decide(routes, alert(severity="low"))
    assert Deliver(("page", "chat")) == decide(routes, alert(severity="low", scope="testnet"))


def test_a_suppressing_route_is_named() -> None:
    """What a suppressing route matches is sent nowhere, and the decision names the route, the last one included."""
    routes = routing(
        route("testnet is noise", {"scope": ("testnet",)}, suppress=True),
        route("page", {"severity": (">=low",)}, ("page", "chat")),
        route("the rest", suppress=True),
    )

    assert Suppress("testnet is noise") == decide(routes, alert(scope="testnet"))
    assert Deliver(("page", "chat")) == decide(routes)
    assert Suppress("the rest") == decide(routes, alert(severity="info"))


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

    assert Deliver(("page",) if expected else ("chat",)) == decide(routes)


def test_an_alert_says_its_status_itself_if_it_has_one() -> None:
    """Only an alert without a status counts as firing."""
    routes = routing(route("firing", {"status": ("firing",)}, ("page",)), route("rest", channels=("chat",)))

    assert Deliver(("chat",)) == decide(routes, alert(status="resolved"))


def test_an_alert_without_labels_matches_no_label() -> None:
    """A route on a label passes over an alert that has no labels at all."""
    routes = routing(route("team", {"labels.team": ("risk",)}, ("page",)), route("rest", channels=("chat",)))

    assert Deliver(("chat",)) == decide(routes, alert(labels=None))


def test_match_fields_are_fields_of_the_alert() -> None:
    """Each field that a route may ask for exists in an alert: a renamed field cannot leave dead routes behind."""
    assert set(MATCH_FIELDS) <= set(AlertEvent.__struct_fields__)


REST = route("rest", channels=("page", "chat"))


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        (
            [route("high", {"severity": ("high",)}, ("page", "chat"))],
            "no route matches would lead nowhere, such as: sev",
        ),
        ([route("r", {"scope": ("a",)}, ("pager",)), REST], "there is no channel 'pager' (did you mean 'page'?)"),
        ([route("r", {"scope": ("a",)}, ("zzz",)), REST], "route 'r' (number 1): there is no channel 'zzz'"),
        ([route("r", {"scope": ("a",)}), REST], "route 'r' (number 1): it leads nowhere"),
        ([route("r", {"scope": ("a",)}, ("page",), suppress=True), REST], "keep one of them"),
        ([route("r", {"scop": ("a",)}, ("page",)), REST], "no field 'scop' to match (did you mean"),
        ([route("r", {"title": ("a",)}, ("page",)), REST], "match: there is no field 'title' to match"),
        ([route("r", {"label.team": ("a",)}, ("page",)), REST], "'label.team' to match (did you mean 'labels.'?)"),
        ([route("r", {"labels.": ("a",)}, ("page",)), REST], "match: there is no field 'labels.' to match"),
        ([route("r", {"delivery.state": ("a",)}, ("page",)), REST], "no field 'delivery.state' to match"),
        ([route("r", {"severity": ("hihg",)}, ("page",)), REST], "no alert has the severity 'hihg'"),
        ([route("r", {"severity": (">=severe",)}, ("page",)), REST], "no alert has the severity 'severe'"),
        ([route("r", {"severity": (">high",)}, ("page",)), REST], "no alert has the severity '>high'"),
        ([route("r", {"status": ("open",)}, ("page",)), REST], "no alert has the status 'open'"),
        (
            [REST, route("late", {"scope": ("a",)}, ("page",)), route("end", suppress=True)],
            "route 'late' (number 2): it is never reached: every alert that it matches is decided by 'rest'",
        ),
        (
            [route("r", None, ("page",), "view = a", "view != a"), REST],
            "route 'r' (number 1): it is never reached: no alert meets its conditions",
        ),
        ([route("r", None, ("page",), "scop = a"), REST], "'scop = a': there is no field 'scop'"),
        (
            [route("r", None, ("page",), active=({"tz": "Europe/Zurch"},)), REST],
            "active: there is no time zone 'Europe",
        ),
        ([route("r", {"scope": ("a",)}, suppress=True, continues=True), REST], "suppress = true and continue = true"),
        ([route("rest", {"scope": ("a",)}, ("page",)), REST], "two routes are named 'rest'"),
        ([route("r", None, ("page",), fallback=("chet",)), REST], "there is no channel 'chet' (did you mean 'chat'?)"),
        ([route("r", None, ("page",), fallback=("chat", "page"))], "channel 'page' is its own fallback; keep it in"),
        ([route("r", None, ("page", "chat"), after_s=5)], "fallback_after_s does nothing without a fallback"),
        ([route("r", None, fallback=("chat",))], "it leads nowhere: it needs channels"),
        ([route("r", suppress=True, fallback=("chat",))], "it says suppress = true and names a fallback"),
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
        "route 'a' (number 1): match: there is no field 'vew' to match (did you mean 'view'?)",
        "route 'a' (number 1): match: no alert has the severity 'x'; it is one of info, low, medium, high, critical",
    ] == str(caught.value).splitlines()


def test_continue_adds_the_channels_of_the_next_route_that_matches() -> None:
    """The channels of all that match are joined, each once, up to the first route that does not go on."""
    routes = routing(
        route("archive", None, ("archive",), continues=True),
        route("page", None, ("page", "archive"), "severity >= high", continues=True),
        route("day", None, ("chat",), "severity >= medium"),
        route("rest", channels=("page",)),
        channels=("page", "chat", "archive"),
    )

    assert Deliver(("archive", "page", "chat")) == decide(routes)
    assert Deliver(("archive", "chat")) == decide(routes, alert(severity="medium"))
    assert Deliver(("archive", "page")) == decide(routes, alert(severity="low"))


def test_a_route_that_goes_on_may_be_the_last_that_matches() -> None:
    """What was gathered is where the alert goes, and a suppressing route takes nothing of it back."""
    routes = routing(
        route("page", None, ("page",), "severity >= high", continues=True),
        route("noise", None, (), "scope = testnet", suppress=True),
        route("rest", channels=("chat",), continues=True),
    )

    assert Deliver(("page", "chat")) == decide(routes)
    assert Deliver(("page",)) == decide(routes, alert(scope="testnet"))
    assert Suppress("noise") == decide(routes, alert(scope="testnet", severity="low"))


def test_a_route_names_its_fallback_and_their_time() -> None:
    """Who stands by, for whom, and for how long these have: five minutes unless the route says otherwise."""
    three = ("page", "chat", "mail")
    routes = routing(
        route("high", None, ("page",), "severity >= high", fallback=("chat", "mail")),
        route("rest", channels=("chat",), fallback=("mail",), after_s=10),
        channels=three,
    )

    high = (Fallback("chat", ("page",), 300.0), Fallback("mail", ("page",), 300.0))
    assert Deliver(("page",), high) == decide(routes)
    assert Deliver(("chat",), (Fallback("mail", ("chat",), 10.0),)) == decide(routes, alert(severity="low"))


def test_routes_that_go_on_bring_their_fallbacks() -> None:
    """Each for the primaries of its own route; what any route sends to anyway is no fallback."""
    routes = routing(
        route("high", None, ("page",), "severity >= high", continues=True, fallback=("chat", "sms"), after_s=60),
        route("vip", None, ("desk",), "view = vault*", continues=True, fallback=("mail",), after_s=90),
        route("rest", channels=("chat",)),
        channels=("page", "chat", "desk", "mail", "sms"),
    )

    sms, mail = Fallback("sms", ("page",), 60.0), Fallback("mail", ("desk",), 90.0)
    assert Deliver(("page", "desk", "chat"), (sms, mail)) == decide(routes)
    assert Deliver(("page", "chat"), (sms,)) == decide(routes, alert(view="pool"))


def test_a_fallback_of_two_routes_stands_by_for_the_primaries_of_both() -> None:
    """Until any of them accepts, and for the shorter time; a route that does not match has no say."""
    routes = routing(
        route("high", None, ("page",), "severity >= high", continues=True, fallback=("mail",), after_s=90),
        route("rest", channels=("chat", "page"), fallback=("mail",), after_s=60),
        channels=("page", "chat", "mail"),
    )

    assert Deliver(("page", "chat"), (Fallback("mail", ("page", "chat"), 60.0),)) == decide(routes)
    alone = Fallback("mail", ("chat", "page"), 60.0)
    assert Deliver(("chat", "page"), (alone,)) == decide(routes, alert(severity="low"))


def test_a_route_matches_only_while_one_of_its_windows_is_open() -> None:
    """Outside of them the next routes are asked."""
    routes = routing(route("day", None, ("chat",), active=(OFFICE,)), route("night", channels=("page",)))

    assert Deliver(("chat",)) == decide(routes)
    assert Deliver(("page",)) == decide(routes, now=NOW + dt.timedelta(hours=5))  # 18:00 in Zurich
    assert Deliver(("page",)) == decide(routes, now=NOW + dt.timedelta(days=2))


def test_each_route_says_why_it_has_no_part() -> None:
    """The verdicts name every condition that does not hold, and who has decided before the rest was asked."""
    routes = routing(
        route("lending", {"view": ("Lending",)}, ("page",), "labels.env = prod", "severity >= medium"),
        route("office", None, ("chat",), active=(OFFICE,), continues=True),
        route("mainnet", None, ("page",), "scope = main*"),
        route("rest", channels=("chat",)),
    )

    verdicts = routes.verdicts(ALERT, NOW + dt.timedelta(days=2))
    assert {
        "lending": "view = Lending: the alert has vault:stETH; labels.env = prod: the alert has none",
        "office": "not active at Sat 13:00 in Europe/Zurich",
        "mainnet": "",
        "rest": "not asked: 'mainnet' has decided",
    } == {verdict.route.name: verdict.why_not for verdict in verdicts}


def test_should_the_proof_err_every_channel_gets_the_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that no route matches, which the proof excludes, is still sent."""
    monkeypatch.setattr("trio_alerts.routing.routes.prove", lambda *_: Proof())
    routes = routing(route("high", None, ("page",), "severity > high"), route("low", None, ("chat",), "severity = low"))

    assert Deliver(("page", "chat")) == decide(routes)
