"""The comparison of a live index with the wanted one, on answers as OpenSearch gives them."""

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from trio_alerts.backends.opensearch.differences import Difference, Remedy, deployment_of, differences, late_searches
from trio_alerts.backends.opensearch.live_index import IndexDescription, LiveIndex, live_indices
from trio_alerts.backends.opensearch.mapping import FIELDS, IndexSpec
from trio_alerts.backends.opensearch.repairs import addition, new_index_commands, ownership, report, takeover
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.event import AlertEvent, Risk
from trio_alerts.record import Origin

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
Described = dict[str, IndexDescription]
Change = Callable[[dict[str, Any]], None]


def answer() -> dict[str, Any]:
    """Return what `GET /alerts?flat_settings=true` says of a right index: defaults are left out, values are text."""
    body = msgspec.json.decode(msgspec.json.encode(WANTED.body()))  # equal fields become separate ones
    settings = {name: str(value) for name, value in body["settings"].items()}
    settings |= {"index.number_of_shards": "1", "index.uuid": "u", "index.provided_name": "alerts-000001"}
    return {"alerts-000001": {"aliases": body["aliases"], "mappings": body["mappings"], "settings": settings}}


def live(change: Change = lambda info: None, *, empty: bool = False) -> LiveIndex:
    info = answer()
    change(info["alerts-000001"])
    return live_indices(msgspec.convert(info, Described), info if empty else ())[0]


def found_in(change: Change, *, empty: bool = False) -> list[Difference]:
    return differences([live(change, empty=empty)], WANTED)


def put(path: str, value: object) -> Change:
    """Return a change that sets a `/`-separated path; a dot belongs to a name."""

    def change(info: dict[str, Any]) -> None:
        *way, last = path.split("/")
        for name in way:
            info = info.setdefault(name, {})
        info[last] = value

    return change


def drop(path: str) -> Change:
    def change(info: dict[str, Any]) -> None:
        *way, last = path.split("/")
        for name in way:
            info = info[name]
        del info[last]

    return change


# --- the mapping itself ----------------------------------------------------------------------------------------------


def test_every_field_of_a_record_is_mapped() -> None:
    """What the program writes and the mapping does not know would be stored and never found."""
    delivery = FIELDS["delivery"]["properties"]

    assert set() == {*AlertEvent.__struct_fields__, *Origin.__struct_fields__, "delivered"} - FIELDS.keys()
    assert set(Delivery.__struct_fields__) == delivery.keys()
    assert set(ChannelDelivery.__struct_fields__) == delivery["channels"]["properties"].keys()
    assert set(Risk.__struct_fields__) == FIELDS["risk"]["properties"].keys()


def test_every_keyword_but_view_and_scope_has_a_limit() -> None:
    """A value of 8,192 or more characters must not refuse the record; view and scope must never be left out."""
    unlimited = []

    def walk(prefix: str, fields: dict[str, Any]) -> None:
        for name, parameters in fields.items():
            if parameters.get("type") == "keyword" and parameters.get("ignore_above") != 8191:
                unlimited.append(prefix + name)
            walk(f"{prefix}{name}.", parameters.get("properties", {}))
            walk(f"{prefix}{name}.", parameters.get("fields", {}))

    walk("", FIELDS)
    assert ["scope", "view"] == sorted(unlimited)


# --- what is right ---------------------------------------------------------------------------------------------------


def test_a_right_index_has_no_differences() -> None:
    """What the creation makes is what the guard wants."""
    assert [] == differences([live()], WANTED)
    assert [] == differences([live(empty=True)], WANTED)


@pytest.mark.parametrize(
    "change",
    [
        put("mappings/dynamic", False),
        put("mappings/date_detection", False),
        put("mappings/properties/foreign", {"type": "text"}),
        put("mappings/properties/view/index", "true"),
        put("mappings/properties/view/doc_values", True),
        put("mappings/properties/view/ignore_above", 2147483647),
        put("mappings/properties/view/eager_global_ordinals", True),
        put("mappings/properties/view/meta", {"unit": "x"}),
        put("mappings/properties/view/fields", {"words": {"type": "text"}}),
        put("mappings/properties/scope", {"type": "keyword", "doc_values": "true"}),
        put("mappings/properties/alert_id/ignore_above", "8191"),
        put("mappings/properties/occurred_at/format", "strict_date_optional_time||epoch_millis"),
        put("mappings/properties/description/analyzer", "standard"),
        put("mappings/properties/delivery/type", "object"),
        put("mappings/properties/delivery/dynamic", "false"),
        put("mappings/_meta/mapping_version", 99),
        put("mappings/_meta/note", "by a human"),
        put("mappings/_source", {"enabled": True}),
        drop("settings/index.default_pipeline"),
        drop("settings/index.translog.durability"),
        put("settings/index.translog.durability", "REQUEST"),
        put("settings/index.number_of_replicas", "2"),
        put("settings/index.refresh_interval", "5s"),
        put("settings/index.refresh_interval", "60000ms"),
        put("settings/index.max_result_window", "1000"),
        put("settings/index.mapping.total_fields.limit", "5"),
        put("settings/index.blocks.write", "false"),
        put("aliases/alerts", {}),
        put("aliases/other", {"filter": {"term": {"view": "x"}}}),
    ],
)
def test_what_changes_no_answer_is_no_difference(change: Change) -> None:
    """Spelled-out defaults, other spellings of a value, costs, notes and foreign fields are left alone."""
    assert [] == found_in(change)


def test_the_index_of_an_older_release_is_trusted_as_it_is() -> None:
    """It had an index and doc values of all fields, and read all dates slowly: it answers the same, and costs more."""

    def fill(fields: dict[str, Any]) -> None:
        for one in fields.values():
            fill(one.get("properties", {}) | one.get("fields", {}))
            if one.get("type") not in {"text", "object"}:
                one.pop("index", None)
                one.pop("doc_values", None)
                one.pop("format", None)
            if one.get("index") is not False:
                one.pop("norms", None)

    def change(info: dict[str, Any]) -> None:
        fill(info["mappings"]["properties"])
        assert info["mappings"]["properties"] != FIELDS

    assert [] == found_in(change)


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put("mappings/properties/view", {"type": "text"}), "view: type is text, must be keyword"),
        (put("mappings/properties/scope", {"type": "alias", "path": "view"}), "scope: type is alias, must be keyword"),
        (put("mappings/properties/view/ignore_above", 256), "view: ignore_above is 256, must be 2147483647"),
        (put("mappings/properties/rule_id/ignore_above", 256), "rule_id: ignore_above is 256, must be 8191"),
        (drop("mappings/properties/rule_id/ignore_above"), "rule_id: ignore_above is 2147483647, must be 8191"),
        (put("mappings/properties/view/index", False), "view: index is false, must be true"),
        (put("mappings/properties/view/doc_values", "false"), "view: doc_values is false, must be true"),
        (put("mappings/properties/view/normalizer", "lowercase"), "view: normalizer is lowercase, must be absent"),
        (put("mappings/properties/view/null_value", "x"), "view: null_value is x, must be absent"),
        (put("mappings/properties/view/copy_to", ["scope"]), 'view: copy_to is ["scope"], must be absent'),
        (drop("mappings/properties/tx_hash/normalizer"), "tx_hash: normalizer is absent, must be lowercase"),
        (put("mappings/properties/details/index", True), "details: index is true, must be false"),
        (put("mappings/properties/occurred_at/format", "epoch_millis"), "occurred_at: format is epoch_millis, must be"),
        (put("mappings/properties/occurred_at/type", "date_nanos"), "occurred_at: type is date_nanos, must be date"),
        (put("mappings/properties/chain_id/ignore_malformed", True), "chain_id: ignore_malformed is true, must be"),
        (put("mappings/properties/chain_id/type", "keyword"), "chain_id: type is keyword, must be long"),
        (put("mappings/properties/labels", {"properties": {"a": {"type": "text"}}}), "labels: type is object, must be"),
        (put("mappings/properties/title/fields/raw/ignore_above", 1), "title.raw: ignore_above is 1, must be 8191"),
        (put("mappings/properties/title/analyzer", "german"), "title: analyzer is german, must be standard"),
        (put("mappings/properties/delivery/type", "nested"), "delivery: type is nested, must be object"),
        (put("mappings/properties/delivery/enabled", False), "delivery: enabled is false, must be true"),
        (put("mappings/properties/delivery/dynamic", "true"), "delivery: dynamic is true, must be false"),
        (
            put("mappings/properties/delivery/properties/channels/properties/name/type", "text"),
            "delivery.channels.name: type is text, must be keyword",
        ),
        (drop("mappings/properties/risk/properties/factors/index"), "risk.factors: index is true, must be false"),
        (
            drop("mappings/properties/delivery/properties/channels/properties/log/enabled"),
            "delivery.channels.log: enabled is true, must be false",
        ),
        (drop("mappings/dynamic"), "dynamic: is true, must be false"),
        (put("mappings/dynamic", "strict"), "dynamic: is strict, must be false"),
        (put("mappings/_source", {"enabled": False}), '_source: is {"enabled":false}, must be kept whole'),
        (put("mappings/_source", {"excludes": ["x"]}), '_source: is {"excludes":["x"]}, must be kept whole'),
        (put("mappings/_routing", {"required": True}), "_routing: required is true, must be false"),
        (put("mappings/_meta/owner", "others"), "_meta: owner is others, must be trio_alerts"),
        (drop("mappings/_meta"), "_meta: owner is null, must be trio_alerts"),
        (put("mappings/_meta/group", "g2"), "_meta: group is g2, must be alert-processor"),
        (put("mappings/_meta/streams", ["B"]), '_meta: streams is ["B"], must be ["AlertStream"]'),
        (put("mappings/_meta/streams", ["AlertStream", "B"]), '_meta: streams is ["AlertStream","B"], must be'),
        (put("settings/index.translog.durability", "async"), "index.translog.durability: is async, must be request"),
        (put("settings/index.default_pipeline", "p"), "index.default_pipeline: is p, must be _none"),
        (put("settings/index.final_pipeline", "p"), "index.final_pipeline: is p, must be _none"),
        (put("settings/index.search.default_pipeline", "p"), "index.search.default_pipeline: is p, must be _none"),
        (put("settings/index.mapping.ignore_malformed", "true"), "index.mapping.ignore_malformed: is true, must be"),
        (put("settings/index.append_only.enabled", "true"), "index.append_only.enabled: is true, must be false"),
        (put("settings/index.derived_source.enabled", "true"), "index.derived_source.enabled: is true, must be false"),
        (put("settings/index.refresh_interval", "-1"), "index.refresh_interval: is -1, must be a time, or unset"),
        (
            put("settings/index.refresh_interval", "61s"),
            "index.refresh_interval: is 61s, must be at most 60s, or unset",
        ),
        (put("settings/index.refresh_interval", "1h"), "index.refresh_interval: is 1h, must be at most 60s, or unset"),
        (put("settings/index.max_result_window", "999"), "index.max_result_window: is 999, must be at least 1000"),
        (
            put("settings/index.analysis.normalizer.lowercase.type", "custom"),
            "index.analysis.normalizer.lowercase.type: is custom, must be unset",
        ),
        (put("aliases/alerts/filter", {"term": {"view": "x"}}), "alias alerts: filter is "),
        (put("aliases/alerts/index_routing", "1"), "alias alerts: index_routing is 1, must be none"),
        (put("aliases/alerts/search_routing", "1"), "alias alerts: search_routing is 1, must be none"),
        (put("aliases/alerts/is_write_index", False), "alias alerts: is_write_index is false, must be true"),
        (put("aliases", {}), "alias alerts: is not an alias of alerts-000001, must be an alias"),
    ],
)
def test_what_would_change_an_answer_is_fatal(change: Change, expected: str) -> None:
    """Each difference names the field, what it is and what it must be, and nothing else is reported."""
    (difference,) = found_in(change)

    assert str(difference).startswith(expected)
    assert Remedy.MANUAL is difference.remedy


def test_every_wrong_field_is_named_at_once() -> None:
    """Whoever fixes the index sees everything that is wrong with it, not one thing a start."""

    def change(info: dict[str, Any]) -> None:
        for name in ("view", "scope", "title"):
            info["mappings"]["properties"][name] = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}
        del info["mappings"]["properties"]["title"]
        info["settings"]["index.translog.durability"] = "async"

    assert ["index.translog.durability", "scope", "title", "view"] == [found.where for found in found_in(change)]


@pytest.mark.parametrize(
    ("setting", "command"),
    [
        ("index.blocks.write", 'PUT /alerts-000001/_settings {"index.blocks.write":null}'),
        ("index.blocks.read_only", 'PUT /alerts-000001/_settings {"index.blocks.read_only":null}'),
        (
            "index.blocks.read_only_allow_delete",
            'PUT /alerts-000001/_settings {"index.blocks.read_only_allow_delete":null}',
        ),
        ("index.blocks.read", 'PUT /alerts-000001/_settings {"index.blocks.read":null}'),
        ("index.verified_before_close", "POST /alerts-000001/_open"),
    ],
)
def test_a_closed_or_blocked_index_is_an_outage(setting: str, command: str) -> None:
    """The records are right, so waiting may mend it; the command is named."""
    (difference,) = found_in(put(f"settings/{setting}", "true"))

    assert (Remedy.WAIT, command) == (difference.remedy, difference.command)


def test_no_index_may_be_created() -> None:
    """Nothing there is the one thing that a start makes by itself."""
    (difference,) = differences([], WANTED)

    assert Remedy.CREATE is difference.remedy
    assert "alerts-000001" in str(difference)


def test_an_alias_over_two_indices_is_fatal() -> None:
    """One alert could be recorded once in each; the command leaves the newest."""
    second = copy.deepcopy(answer()["alerts-000001"])
    (difference,) = differences(
        live_indices(msgspec.convert({**answer(), "alerts-000002": second}, Described), ()), WANTED
    )

    assert Remedy.MANUAL is difference.remedy
    assert 'POST /_aliases {"actions":[{"remove":{"index":"alerts-000001","alias":"alerts"}}]}' == difference.command


# --- what may be added -----------------------------------------------------------------------------------------------


def test_missing_fields_are_added_to_our_index() -> None:
    """A field that an older release did not know is added, with `_meta` kept; what is inside an object, too."""

    def change(info: dict[str, Any]) -> None:
        fields = info["mappings"]["properties"]
        del fields["links"], fields["title"]["fields"], fields["delivery"]["properties"]["reason"]
        info["mappings"]["_meta"] |= {"mapping_version": 0, "note": "by a human"}

    index = live(change)
    found = differences([index], WANTED)

    assert {Remedy.ADD} == {difference.remedy for difference in found}
    assert ["_meta", "delivery.reason", "links", "title.raw"] == [difference.where for difference in found]
    assert {
        "_meta": {**WANTED.meta(), "note": "by a human"},
        "properties": {
            "links": FIELDS["links"],
            "title": FIELDS["title"],
            "delivery": {"properties": {"reason": FIELDS["delivery"]["properties"]["reason"]}},
        },
    } == addition(found, index, WANTED)


def test_the_index_of_version_1_is_brought_up_to_date_by_adding_fields() -> None:
    """Queues, and what a channel says of its waits and its primaries; nothing that is there is touched."""

    def change(info: dict[str, Any]) -> None:
        info["mappings"]["_meta"]["mapping_version"] = 1
        delivery = info["mappings"]["properties"]["delivery"]["properties"]
        del delivery["queues"], delivery["channels"]["properties"]["since"]
        del delivery["channels"]["properties"]["fallback_of"]
        del delivery["channels"]["properties"]["unconfigured_since"]

    index = live(change)
    found = differences([index], WANTED)

    assert {Remedy.ADD} == {difference.remedy for difference in found}
    channels = FIELDS["delivery"]["properties"]["channels"]["properties"]
    added = {"queues": FIELDS["delivery"]["properties"]["queues"]}
    added["channels"] = {
        "properties": {name: channels[name] for name in ("fallback_of", "since", "unconfigured_since")}
    }
    assert {"_meta": WANTED.meta(), "properties": {"delivery": {"properties": added}}} == addition(found, index, WANTED)
    assert 2 == WANTED.meta()["mapping_version"]


def test_the_version_of_a_newer_release_stays() -> None:
    """An older release that adds its field does not make the index look older than it is."""

    def change(info: dict[str, Any]) -> None:
        info["mappings"]["_meta"]["mapping_version"] = 99
        del info["mappings"]["properties"]["links"]

    index = live(change)
    added = addition(differences([index], WANTED), index, WANTED)

    assert added is not None
    assert 99 == added["_meta"]["mapping_version"]


def test_missing_fields_of_a_foreign_index_are_fatal_unless_it_is_empty() -> None:
    """Nothing is changed in an index that is not ours; one without documents can become ours."""

    def change(info: dict[str, Any]) -> None:
        del info["mappings"]["_meta"], info["mappings"]["properties"]["links"]

    foreign, empty = live(change), live(change, empty=True)

    assert [Remedy.MANUAL] * 2 == [difference.remedy for difference in differences([foreign], WANTED)]
    assert None is addition(differences([foreign], WANTED), foreign, WANTED)
    assert [Remedy.ADD] * 2 == [difference.remedy for difference in differences([empty], WANTED)]
    added = addition(differences([empty], WANTED), empty, WANTED)
    assert {"_meta": WANTED.meta(), "properties": {"links": FIELDS["links"]}} == added


def test_nothing_is_added_beside_a_fatal_difference() -> None:
    """An index that cannot be trusted is left as it is, for a human to fix."""

    def change(info: dict[str, Any]) -> None:
        del info["mappings"]["properties"]["links"]
        info["mappings"]["properties"]["view"] = {"type": "text"}

    index = live(change)

    assert None is addition(differences([index], WANTED), index, WANTED)
    assert None is addition([], live(), WANTED)


@pytest.mark.parametrize(
    ("live_streams", "streams", "kinds"),
    [
        (["A", "B"], ("A", "B", "C"), [Remedy.ADD]),
        (["A", "B", "C"], ("B", "A"), []),
        (["A"], ("A", "B"), [Remedy.MANUAL]),
        (["A", "B"], ("A",), [Remedy.MANUAL]),
        (["A", "B"], ("A", "C"), [Remedy.MANUAL]),
        ("A", ("A",), [Remedy.MANUAL]),
        (None, ("A",), [Remedy.MANUAL]),
    ],
)
def test_partitions_may_grow_but_one_stream_may_not_become_several(
    live_streams: object, streams: tuple[str, ...], kinds: list[Remedy]
) -> None:
    """With several streams a record's ID begins with its stream: from one to several every ID would change."""
    found = differences(
        [live(put("mappings/_meta/streams", live_streams))], IndexSpec("alerts", streams, "alert-processor")
    )

    assert kinds == [difference.remedy for difference in found]


# --- what a human is told --------------------------------------------------------------------------------------------


def test_the_report_names_fields_and_commands() -> None:
    """One line a difference, then what fixes it: of an index of ours `migrate`."""
    index = live(put("mappings/properties/view", {"type": "text"}))
    lines = report(differences([index], WANTED), [index], WANTED).splitlines()

    assert "The index cannot be trusted: alias alerts, alerts-000001." == lines[0]
    assert lines[1].startswith("  view: type is text, must be keyword (filters")
    assert ["  python -m trio_alerts migrate"] == lines[3:]


def test_of_an_index_that_is_not_ours_the_report_has_requests() -> None:
    """`migrate` leaves that alone: a right index, a copy, the alias moved in one step."""
    index = live(lambda info: info.update(mappings={"properties": {"view": {"type": "text"}}}))
    lines = report(differences([index], WANTED), [index], WANTED).splitlines()

    assert ["PUT /alerts-000002", "POST /_reindex?refresh=true", "POST /_aliases"] == [
        " ".join(line.split()[:2]) for line in lines[-3:]
    ]
    assert lines[-1].endswith(
        '{"actions":[{"remove":{"index":"alerts-000001","alias":"alerts"}},'
        '{"add":{"index":"alerts-000002","alias":"alerts","is_write_index":true}}]}'
    )


def test_a_setting_is_fixed_in_place() -> None:
    """What can be changed on a live index needs no new one."""
    index = live(put("settings/index.translog.durability", "async"))
    text = report(differences([index], WANTED), [index], WANTED)

    assert text.endswith('PUT /alerts-000001/_settings {"index.translog.durability":"request"}')
    assert "_reindex" not in text


def test_an_index_in_the_place_of_the_alias_gives_up_its_name_in_one_step() -> None:
    """The name is never free for a moment in which a write of somebody else could take it."""
    described = {"alerts": {**answer()["alerts-000001"], "aliases": {}}}
    (index,) = live_indices(msgspec.convert(described, Described), described)
    (difference,) = differences([index], WANTED)
    create, move = new_index_commands(index, WANTED)  # empty: there is nothing to copy

    assert "alias alerts: is an index of that name, must be an alias" == str(difference).partition(" (")[0]
    assert create.startswith("PUT /alerts-000001 ")
    assert '[{"remove_index":{"index":"alerts"}},{"add":{"index":"alerts-000001"' in move


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize(("name", "value"), [("group", "another"), ("streams", ["B"])])
def test_an_index_of_another_deployment_is_not_taken(name: str, value: object, empty: bool) -> None:
    """Nor is an empty one: whoever made it may be about to write. It is described, where it has no identity yet."""
    index = live(put(f"mappings/_meta/{name}", value), empty=empty)

    (difference,) = differences([index], WANTED)
    assert Remedy.MANUAL is difference.remedy
    assert "python -m trio_alerts adopt" in str(difference)
    assert addition([difference], index, WANTED) is None
    assert str(deployment_of(index, WANTED)).startswith("of group ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, None),
        (drop("mappings/_meta"), None),
        (put("mappings/_meta/owner", "others"), None),
        (put("mappings/_meta/deployment", "d-1"), "d-1"),
        (put("mappings/_meta", {"owner": "trio_alerts", "deployment": "d-1", "group": "another"}), "d-1"),
        (put("mappings/_meta/mapping_version", 0), None),
    ],
)
def test_an_index_tells_whose_it_is(change: Change, expected: str | None) -> None:
    """By its identity; what has none and may be ours, and what was never of this program, is nobody's."""
    assert expected == deployment_of(live(change), WANTED)


def test_an_identity_stays_with_everything_else_that_is_noted() -> None:
    """`_meta` is replaced as a whole: streams of others and notes of humans are sent along, and so is the identity."""
    meta = {**WANTED.meta(), "streams": ["AlertStream", "B"], "note": "by a human"}
    index = live(put("mappings/_meta", meta))

    assert {"_meta": {**meta, "deployment": "d-1"}} == ownership(index, "d-1")
    assert {"_meta": {**WANTED.meta(), "note": "by a human", "deployment": "d-2"}} == takeover(index, WANTED, "d-2")
    owned = live(put("mappings/_meta", {**WANTED.meta(), "deployment": "d-1"}))
    assert '"deployment":"d-1"' in new_index_commands(owned, WANTED)[0]
    assert '"deployment"' not in new_index_commands(live(), WANTED)[0]


@pytest.mark.parametrize("owner", [None, "somebody"])
def test_an_index_of_somebody_else_is_told_in_two_lines(owner: str | None) -> None:
    """Forty wrong fields would only hide that it is not ours; one that a write of an alert made has its fields."""

    def change(info: dict[str, Any]) -> None:
        field = "message" if owner is None else "view"
        info["mappings"] = {"_meta": {"owner": owner}, "properties": {field: {"type": "text"}}}

    def made_by_a_write(info: dict[str, Any]) -> None:
        info["mappings"] = {"properties": {"view": {"type": "text"}}}

    first, second = report(differences([live(change)], WANTED), [live(change)], WANTED).splitlines()
    assert "alerts-000001 belongs to something else (_meta: owner is " in first
    assert second.startswith("Choose another `index` than 'alerts'")
    dynamic = live(made_by_a_write)
    assert "  view: type is text, must be keyword" in report(differences([dynamic], WANTED), [dynamic], WANTED)


@pytest.mark.parametrize(("interval", "late"), [("5s", False), ("900ms", False), ("5001ms", True), ("30s", True)])
def test_searches_that_lag_far_behind_are_said(interval: str, late: bool) -> None:
    """It is allowed, and seldom meant: one line names the index and its interval. A second is what nobody has set."""
    said = late_searches(live(put("settings/index.refresh_interval", interval)))
    assert late == (said is not None and f"alerts-000001 is refreshed every {interval}" in said)
    assert None is late_searches(live())
