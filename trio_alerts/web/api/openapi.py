"""`openapi.json`: the API described (OpenAPI 3.1), from its endpoints and the types of what they take and return."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from trio_alerts import __version__
from trio_alerts.web.api.endpoint import Endpoint
from trio_alerts.web.api.parts import Parameter
from trio_alerts.web.api.problems import MEDIA_TYPE, TITLES, ProblemDetails
from trio_alerts.web.api.record_document import RecordDocument

Json = Mapping[str, Any]

ALWAYS = (400, 401, 421, 500, 503)  # whoever asks may get one of these
CHANGES = (403, 408, 413)

EXAMPLES = {"record_id": "1763251506275-0", "dead_id": "1763251506275-0", "silence_id": "1a2b3c4d"}

ABOUT = """\
Records of alerts, dead letters and silences, as the console shows them. Errors are problem details (RFC 9457).
With a bearer token a change needs nothing else; with the cookie of a session it needs `X-CSRF-Token`, as a form does.
"""


def describe(endpoints: Sequence[Endpoint], prefix: str) -> bytes:
    """Return the description, as JSON."""
    bodies = [one.body for one in endpoints if one.body is not None]
    kinds: list[type[Struct]] = [ProblemDetails, RecordDocument, *(one.answer for one in endpoints), *bodies]
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    reference = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Json]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, endpoints, reference)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "trio-alerts", "version": __version__, "description": ABOUT},
            "servers": [{"url": prefix}],
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(endpoint: Endpoint, others: Sequence[Endpoint], reference: Mapping[type[Struct], Json]) -> Json:
    done = {**_content("Done", "application/json", reference[endpoint.answer]), "links": _links(endpoint, others)}
    problems = {
        str(status): _content(TITLES[status], MEDIA_TYPE, reference[ProblemDetails])
        for status in sorted(_problems(endpoint))
    }
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "parameters": [*_path_parameters(endpoint), *map(_query_parameter, endpoint.query)],
        "responses": {str(endpoint.status): done, **problems},
    }
    if endpoint.body is not None:
        needed = any(one.required for one in msgspec.structs.fields(endpoint.body))
        content = {"application/json": {"schema": reference[endpoint.body], "example": endpoint.example}}
        operation["requestBody"] = {"required": needed, "content": content}
    return operation


def _links(endpoint: Endpoint, others: Sequence[Endpoint]) -> Json:
    return {
        other.name: {"operationId": other.name, "parameters": {name: f"$response.body#{pointer}"}}
        for name, pointer in endpoint.ids.items()
        for other in others
        if other.names == name
    }


def _problems(endpoint: Endpoint) -> Iterator[int]:
    yield from ALWAYS
    if endpoint.method != "GET":
        yield from CHANGES
    if endpoint.names:
        yield 404
    if endpoint.body is not None:
        yield from (415, 422)
    if endpoint.conflicts:
        yield 409


def _path_parameters(endpoint: Endpoint) -> Iterator[Json]:
    if endpoint.names:
        schema = {"type": "string", "minLength": 1}
        example = EXAMPLES[endpoint.names]
        yield {"name": endpoint.names, "in": "path", "required": True, "schema": schema, "example": example}


def _query_parameter(parameter: Parameter) -> Json:
    schema = {"type": "array", "items": parameter.schema} if parameter.repeats else parameter.schema
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema}


def _content(description: str, media_type: str, schema: Json) -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}
