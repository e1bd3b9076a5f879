"""What is effect of other teams' index templates, from answers in memory; real servers judge it in tests/real."""

from typing import Any

import msgspec
import pytest

from trio_alerts.backends.opensearch.differences import template_differences
from trio_alerts.backends.opensearch.live_index import IndexBody
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.templates import (
    ComposablesAnswer,
    Legacy,
    SimulationAnswer,
    TemplateEffect,
    flattened,
    from_composable,
    from_legacy,
    joined,
    winner,
)

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")


def composables(**by_name: dict[str, Any]) -> ComposablesAnswer:
    templates = [{"name": name, "index_template": about} for name, about in by_name.items()]
    return msgspec.convert({"index_templates": templates}, ComposablesAnswer)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("*", True), ("alerts*", True), ("al*-0*1", True), ("alerts-000001", True), ("alerts", False), ("lerts*", False)],
)
def test_a_pattern_matches_the_whole_name(pattern: str, matches: bool) -> None:
    """A star stands for anything; there is no other sign."""
    assert matches == (winner(composables(one={"index_patterns": ["x", pattern]}), WANTED.first_index) is not None)


def test_the_highest_priority_counts_alone() -> None:
    """Without a priority it is 0; a template that does not match has none."""
    found = winner(
        composables(
            low={"index_patterns": ["*"]},
            high={"index_patterns": ["alerts*"], "priority": 7},
            other={"index_patterns": ["logs*"], "priority": 9},
        ),
        WANTED.first_index,
    )

    assert found is not None
    effect = from_composable(found, SimulationAnswer(IndexBody({"index": {"a": {"b": "1"}}, "c": "2"})))
    assert (("high",), {"index.a.b": "1", "c": "2"}, 7) == (effect.names, effect.body.settings, effect.priority)
    assert 'PUT /_index_template/alerts {"index_patterns":["alerts-0*"],"priority":8}' == effect.override("alerts")


def test_legacy_templates_are_merged_in_their_order() -> None:
    """The highest order is the last word on a setting, a field and an alias; what does not match has no say."""
    effect = from_legacy(
        {
            "second": Legacy({"index.a": "2"}, {"properties": {"f": {"type": "text"}}}, {}, ["al*"], 2),
            "first": Legacy({"index": {"a": "1", "b": "1"}}, {"properties": {"g": {}}}, {"x": {}}, ["*"], 1),
            "third": Legacy({"index.a": "3"}, {}, {}, ["logs*"], 3),
        },
        WANTED.first_index,
    )

    assert ("first", "second") == effect.names
    assert {"index.a": "2", "index.b": "1"} == effect.body.settings
    assert {"f": {"type": "text"}, "g": {}} == effect.body.mappings["properties"]
    assert {"x": {}} == effect.body.aliases


def test_objects_are_joined_and_fields_replaced() -> None:
    """As OpenSearch does it: nothing of a field is left under one of the same name, but what is in an object is."""
    live = {
        "properties": {"o": {"properties": {"a": {}, "b": {}}}, "f": {"type": "text", "fields": {"k": {}}}},
        "_x": 1,
    }
    over = {"properties": {"o": {"properties": {"b": {"type": "long"}}}, "f": {"type": "keyword"}}}

    inside = {"a": {}, "b": {"type": "long"}}
    assert {"properties": {"o": {"properties": inside}, "f": {"type": "keyword"}}, "_x": 1} == joined(live, over)
    assert {"a.b.c": 1} == flattened({"a": {"b.c": 1}})


@pytest.mark.parametrize(
    ("settings", "overruled"),
    [
        ({"index.search.default_pipeline": "theirs"}, {"index.search.default_pipeline": "_none"}),
        ({"index.max_result_window": "999"}, {"index.max_result_window": "10000"}),
        ({"index.max_result_window": 1000}, {}),
        ({"index.mapping.total_fields.limit": "5"}, {"index.mapping.total_fields.limit": "1000"}),
        ({"index.mapping.total_fields.limit": "5000"}, {}),
        ({"index.mapping.ignore_malformed": "true"}, {"index.mapping.ignore_malformed": "false"}),
        ({"index.number_of_replicas": "0", "index.default_pipeline": "theirs"}, {}),
    ],
)
def test_settings_that_do_harm_are_overruled(settings: dict[str, Any], overruled: dict[str, str]) -> None:
    """What the request says wins; it says nothing about what does no harm, and with it nothing is wrong."""
    plain = WANTED.body()["settings"]
    assert {**plain, **overruled} == WANTED.body(templates=settings)["settings"]
    assert [] == template_differences(TemplateEffect(("theirs",), IndexBody(settings)), WANTED)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (TemplateEffect(data_stream=True), "alerts-000001: is to be a data stream, must be an index"),
        (
            TemplateEffect(body=IndexBody({"index.refresh_interval": "-1"})),
            "index.refresh_interval: is -1, must be a time",
        ),
        (
            TemplateEffect(body=IndexBody({"index.refresh_interval": "2m"})),
            "index.refresh_interval: is 2m, must be at most 60s",
        ),
        (TemplateEffect(body=IndexBody({"index.blocks.write": "true"})), "index.blocks.write: is true, must be false"),
        (TemplateEffect(body=IndexBody({}, {"_source": {"enabled": False}})), "_source: is "),
        (TemplateEffect(body=IndexBody({}, {"_routing": {"required": True}})), "_routing: required is true"),
        (TemplateEffect(body=IndexBody({}, {"properties": {"view": {"type": "text"}}, "dynamic": "true"})), ""),
        (TemplateEffect(body=IndexBody({}, {}, {"alerts": {"filter": {"term": {"view": "x"}}}, "more": {}})), ""),
    ],
)
def test_what_cannot_be_overruled_is_told(effect: TemplateEffect, expected: str) -> None:
    """The same words as for an index that is there, and what keeps the template away; empty: the request overrules."""
    found = template_differences(effect, WANTED)

    assert [expected] * bool(expected) == [str(one)[: len(expected)] for one in found]
    assert all(one.command.startswith("PUT /_index_template/alerts ") for one in found)
