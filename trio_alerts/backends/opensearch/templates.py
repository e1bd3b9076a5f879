"""What other teams' index templates would do to the index that `run` creates, from what they say. Pure, no I/O.

Of the composable templates that match a name the one with the highest priority counts, and no legacy template beside
it; without one, all legacy templates that match are merged in their order. What a request says itself wins over them,
but aliases, analyzers and fields that it does not name stay. `PUT /_index_template` with a higher priority and a
pattern for our indices alone keeps every other template away: that is the advice in the message.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trio_alerts.backends.opensearch.live_index import IndexBody
from trio_alerts.backends.opensearch.mapping import as_request

Settings = dict[str, Any]


class Composable(msgspec.Struct):
    """One of `GET /_index_template`."""

    index_patterns: list[str]
    priority: int = 0
    data_stream: dict[str, Any] | None = None


class NamedComposable(msgspec.Struct):
    """See `Composable`."""

    name: str
    index_template: Composable


class ComposablesAnswer(msgspec.Struct):
    """The answer to `GET /_index_template`."""

    index_templates: list[NamedComposable]


class SimulationAnswer(msgspec.Struct):
    """The answer to `POST /_index_template/_simulate_index/<name>`."""

    template: IndexBody


class Legacy(IndexBody):
    """One of `GET /_template`."""

    index_patterns: list[str] = msgspec.field(default_factory=list)
    order: int = 0


@dataclass(frozen=True, slots=True)
class TemplateEffect:
    """What templates add to a new index.

    Args:
        names: Of the templates; empty if none matches.
        body: What they say, settings by their flat names.
        data_stream: The name would be that of a data stream: no index of that name can be created.
        priority: A composable template of a higher one, for this name alone, keeps these away.
    """

    names: Sequence[str] = ()
    body: IndexBody = field(default_factory=IndexBody)
    data_stream: bool = False
    priority: int = 0

    def override(self, alias: str) -> str:
        """Return the request that keeps them from our indices."""
        own = {"index_patterns": [f"{alias}-0*"], "priority": self.priority + 1}
        return as_request("PUT", f"/_index_template/{alias}", own)


def winner(answer: ComposablesAnswer, index: str) -> NamedComposable | None:
    """Return the composable template that counts for a new index."""
    matching = [one for one in answer.index_templates if _matches(one.index_template.index_patterns, index)]
    return max(matching, key=lambda one: one.index_template.priority, default=None)


def from_composable(template: NamedComposable, simulated: SimulationAnswer | None) -> TemplateEffect:
    """Return what a composable template adds; a data stream's is not simulated."""
    body = IndexBody() if simulated is None else simulated.template
    flat = IndexBody(flattened(body.settings), body.mappings, body.aliases)
    about = template.index_template
    return TemplateEffect((template.name,), flat, about.data_stream is not None, about.priority)


def from_legacy(answer: Mapping[str, Legacy], index: str) -> TemplateEffect:
    """Return what legacy templates add, the highest order last."""
    matching = [(name, one) for name, one in answer.items() if _matches(one.index_patterns, index)]
    merged = IndexBody()
    for _, one in sorted(matching, key=lambda pair: pair[1].order):
        merged = IndexBody(
            {**merged.settings, **flattened(one.settings)},
            joined(merged.mappings, one.mappings),
            {**merged.aliases, **one.aliases},
        )
    return TemplateEffect(tuple(sorted(name for name, _ in matching)), merged)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Return nested settings by their flat names, such as `index.search.default_pipeline`."""
    flat: Settings = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def joined(mappings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with another one over it, as OpenSearch joins them: objects are merged, fields replaced."""
    result = {**mappings, **over}
    if "properties" in mappings and "properties" in over:
        fields, others = mappings["properties"], over["properties"]
        result["properties"] = {
            **fields,
            **{
                name: joined(fields[name], other)
                if "properties" in fields.get(name, {}) and "properties" in other
                else other
                for name, other in others.items()
            },
        }
    return result


def _matches(patterns: Sequence[str], index: str) -> bool:
    return any(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), index) for pattern in patterns)
