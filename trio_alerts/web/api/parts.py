"""The query and the body of a request: each part is read by itself, so that all that is wrong is said at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct, structs
from starlette.requests import Request

from trio_alerts.operations.filters import Filter
from trio_alerts.text import did_you_mean
from trio_alerts.web.api.problems import Problem, WrongPart

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query.

    Args:
        name: As it is in the URL.
        about: What it does.
        read: Reads its value; raises `ValueError` if it makes no sense.
        schema: What a value may be, as JSON Schema.
        repeats: It may be given more than once; its value is a list then.
    """

    name: str
    about: str
    read: Callable[[str], Any] = str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    repeats: bool = False


def of_filter(one: Filter) -> Parameter:
    """Return the parameter that is a filter of records."""
    schema = {"type": "string", "enum": one.choices} if one.choices else {"type": "string"}
    return Parameter(one.name, one.about, one.read, schema, one.repeats)


def flag(text: str) -> bool:
    """Read `true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def read_query(request: Request, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the values of those parameters that are given, by name, with `_` for `-`.

    Raises:
        Problem: Some are wrong, or unknown.
    """
    given: dict[str, list[str]] = {}
    for name, text in request.query_params.multi_items():
        given.setdefault(name, []).append(text)
    known = {one.name: one for one in parameters}
    values: dict[str, Any] = {}
    wrong: list[WrongPart] = []
    for name, texts in given.items():
        try:
            values[name.replace("-", "_")] = _value(name, texts, known)
        except ValueError as fault:
            wrong.append(WrongPart(name, str(fault)))
    if wrong:
        raise Problem(400, _summary(wrong), "wrong-parameters", wrong)
    return values


def _value(name: str, texts: Sequence[str], known: Mapping[str, Parameter]) -> Any:
    if name not in known:
        raise ValueError(f"there is no such parameter here{did_you_mean(name, known)}")
    if known[name].repeats:
        return tuple(map(known[name].read, texts))
    if len(texts) > 1:
        raise ValueError("is given more than once")
    return known[name].read(texts[0])


async def read_body(request: Request, shape: type[Struct]) -> Struct:
    """Return the body of a request; one that is empty is an empty object.

    Raises:
        Problem: It is no JSON, or something in it is wrong, missing or unknown.
    """
    members = await _members(request)
    fields = {one.encode_name: one for one in structs.fields(shape)}
    values: dict[str, Any] = {}
    wrong = [
        WrongPart(name, f"there is no such member here{did_you_mean(name, fields)}")
        for name in members
        if name not in fields
    ]
    for name, one in fields.items():
        if name in members:
            try:
                values[one.name] = _decoded(members[name], one.type)
            except ValueError as fault:
                wrong.append(WrongPart(name, str(fault)))
        elif one.required:
            wrong.append(WrongPart(name, "is missing"))
    if wrong:
        raise wrong_body(wrong)
    return shape(**values)


def wrong_body(wrong: Sequence[WrongPart]) -> Problem:
    """Return the error that names each member that is wrong."""
    return Problem(422, _summary(wrong), "wrong-body", wrong)


async def _members(request: Request) -> dict[str, msgspec.Raw]:
    body = await request.body()
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "the body must be JSON, and say so: Content-Type: application/json")
    try:
        return _MEMBERS.decode(body)
    except msgspec.ValidationError:
        raise Problem(422, "the body must be a JSON object", "wrong-body") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply", "not-json") from None
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise Problem(400, f"the body is not JSON: {fault}", "not-json") from None


def _decoded(raw: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except msgspec.DecodeError as fault:
        raise ValueError(str(fault)) from None


def _summary(wrong: Sequence[WrongPart]) -> str:
    return "; ".join(f"{one.name:.100}: {one.reason}" for one in wrong[:10])
