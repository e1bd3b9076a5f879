"""Matchers: what is asked of an alert, in Alertmanager's manner: `severity >= high`, `scope != "staging*"`.

    FIELD = VALUE    FIELD != VALUE    FIELD in [VALUE, …]    FIELD not in [VALUE, …]    severity >= VALUE (> <= <)

A value is a word, or stands in quotes; `*` and `?` in it are wildcards unless a backslash precedes them. A field that
the alert does not have counts as empty text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_type_hints

import msgspec

from trio_alerts.event import SEVERITIES, AlertEvent
from trio_alerts.routing.globs import Glob, Token, Wildcard
from trio_alerts.text import did_you_mean

STATUSES = ("firing", "resolved", "retracted")  # an alert that does not say is firing

# The exact-match fields of an alert that a matcher may ask for; `labels.NAME` comes on top.
MATCH_FIELDS = (
    *("view", "scope", "alert_id", "rule_id", "rule_version", "severity", "status", "source", "type", "schema_version"),
    *("fingerprint", "group_key", "supersedes", "chain_id", "network", "finality", "addresses", "contract", "protocol"),
)
LABEL = "labels."
WORDS = {"severity": SEVERITIES, "status": STATUSES}  # fields that have one of a few values
FORMS = {"chain_id": "a whole number", "schema_version": "a version"}  # fields whose values are no free text
# Stored in lower case, so compared in lower case: an address means the same in both spellings.
CASELESS = frozenset({"addresses", "contract"})
_TYPES = get_type_hints(AlertEvent, include_extras=True)
_REQUIRED = frozenset(one.name for one in msgspec.structs.fields(AlertEvent) if one.required)

_FIELD_AND_OPERATOR = re.compile(
    r'\s*(labels\."(?:[^"\\]|\\.)*"|[^\s"=!<>~\[\],]+)\s*'
    r'(=~|!~|==|!=|>=|<=|=|>|<|(?<=[\s"])(?:not\s+)?in(?=[\s"\[]))\s*',
    re.DOTALL,
)
_VALUE = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"\[\],]+))\s*', re.DOTALL)
_HOW = "write FIELD = VALUE, FIELD in [VALUE, VALUE] or severity >= VALUE, and put in quotes what is more than one word"
_ESCAPABLE = '"\\*?'


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one field of an alert.

    Args:
        text: As it was written, for messages.
        field: The field that it asks for: one of `MATCH_FIELDS`, or `labels.NAME`.
        literals: The values that it names.
        globs: The patterns that it names.
        absent: It names the value of an alert that does not have the field.
        negated: It matches what it does not name.
    """

    text: str
    field: str
    literals: frozenset[str]
    globs: tuple[Glob, ...] = ()
    absent: bool = False
    negated: bool = False

    def matches(self, event: AlertEvent) -> bool:
        """Say whether an alert has, or if negated has not, one of the values; of several addresses one is enough."""
        value = field_value(event, self.field)
        if value is None:
            return self.absent != self.negated
        if isinstance(value, list):
            return any(map(self.names, value)) != self.negated
        return self.names(value) != self.negated

    def names(self, value: str) -> bool:
        """Say whether a value is one of those that it names, negated or not."""
        return value in self.literals or any(glob.accepts(value) for glob in self.globs)


def parse_matcher(text: str) -> Matcher:
    """Read a matcher.

    Raises:
        ValueError: It is not a matcher, or no alert can be what it asks for; the text says what is wrong.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def written(field: str, value: str) -> str:
    """Return the text of the matcher for one value, in which nothing is a wildcard."""
    escaped = "".join(f"\\{one}" if one in _ESCAPABLE else one for one in value)
    return f'{field} = "{escaped}"'


def exact_matcher(field: str, values: Sequence[str]) -> Matcher:
    """Return the matcher for one key of `match`, where values have no wildcards and `">=high"` is a severity.

    Raises:
        ValueError: There is no such field, or no alert has such a value in it; the text says what is wrong.
    """
    _check_field(field)
    literals: set[str] = set()
    for value in values:
        if field == "severity" and value.startswith(">="):
            literals.update(_ranks(field, ">=", list(value.removeprefix(">=").strip())))
        else:
            literals.add(_checked(field, value.lower() if field in CASELESS else value))
    shown = f"= {values[0]}" if len(values) == 1 else f"in [{', '.join(values)}]"
    return Matcher(f"{field} {shown}", field, frozenset(literals))


def field_value(event: AlertEvent, field: str) -> str | list[str] | None:
    """Return what an alert has in a field, in the form that values are compared in; None if it does not have it."""
    if field.startswith(LABEL):
        return (event.labels or {}).get(field[len(LABEL) :])
    value = getattr(event, field)
    if value is None:
        return "firing" if field == "status" else None
    if field in CASELESS:
        return value.lower() if isinstance(value, str) else [one.lower() for one in value] or None
    return str(value)


def is_possible(field: str, value: str) -> bool:
    """Say whether an alert can have a value in a field."""
    try:
        if field.startswith(LABEL):
            msgspec.convert({field.removeprefix(LABEL): value}, _TYPES["labels"])
            return True
        return field == "addresses" or str(msgspec.convert(value, _TYPES[field], strict=False)) == value
    except msgspec.ValidationError:
        return False


def can_be_absent(field: str) -> bool:
    """Say whether an alert may come without a field; one without a status is firing."""
    return field not in _REQUIRED and field != "status"


def _parse(text: str) -> Matcher:
    head = _FIELD_AND_OPERATOR.match(text)
    if head is None:
        raise ValueError(_HOW)
    field, operator = _field(head[1]), " ".join(head[2].split())
    if "~" in operator:
        raise ValueError("there are no regular expressions: use = or != with the wildcards * and ?")
    if operator == "==":
        raise ValueError("write = instead of ==")
    rest = text[head.end() :]
    if operator[0] in "<>":
        return Matcher(text, field, frozenset(_ranks(field, operator, _one_value(rest))))
    values = _list_of_values(rest) if operator.endswith("in") else [_one_value(rest)]
    return _matcher(text, field, values, negated=operator in ("!=", "not in"))


def _matcher(text: str, field: str, values: Iterable[Sequence[Token]], *, negated: bool) -> Matcher:
    literals: set[str] = set()
    globs: list[Glob] = []
    for value in values:
        tokens = [one.lower() if isinstance(one, str) else one for one in value] if field in CASELESS else value
        if not any(isinstance(token, Wildcard) for token in tokens):
            literals.add(_checked(field, _plain(tokens)))
        elif field in FORMS:
            raise ValueError(f"{field} is {FORMS[field]}: it takes no wildcards")
        elif field in WORDS:
            literals |= _words(field, Glob(tokens))
        else:
            globs.append(Glob(tokens))
    absent = can_be_absent(field) and ("" in literals or any(glob.accepts("") for glob in globs))
    return Matcher(text, field, frozenset(literals), tuple(globs), absent, negated)


def _field(written: str) -> str:
    field = written
    if written.startswith(f'{LABEL}"'):
        field = LABEL + _plain(_tokens(written[len(LABEL) + 1 : -1]))
    _check_field(field)
    return field


def _check_field(field: str) -> None:
    if not (field in MATCH_FIELDS or (field.startswith(LABEL) and is_possible(field, ""))):
        hint = "" if field.startswith(LABEL) else did_you_mean(field, (*MATCH_FIELDS, LABEL), repr)
        raise ValueError(f"there is no field {field!r} to match{hint or '; a label is written labels.NAME'}")


def _one_value(text: str) -> Sequence[Token]:
    value = _VALUE.fullmatch(text)
    if value is None:
        raise ValueError(_HOW)
    return _value(value)


def _list_of_values(text: str) -> Iterator[Sequence[Token]]:
    written = text.strip()
    if not (written.startswith("[") and written.endswith("]")):
        raise ValueError(_HOW)
    position, end = 1, len(written) - 1
    while True:
        value = _VALUE.match(written, position, end)
        if value is None:
            raise ValueError(_HOW)
        yield _value(value)
        position = value.end() + 1
        if value.end() == end:
            return
        if written[value.end()] != ",":
            raise ValueError(_HOW)


def _value(found: re.Match[str]) -> Sequence[Token]:
    return _tokens(found[2] if found[1] is None else found[1])


def _tokens(written: str) -> Sequence[Token]:
    tokens: list[Token] = []
    characters = iter(written)
    for character in characters:
        match character:
            case "*":
                tokens.append(Wildcard.ANY_TEXT)
            case "?":
                tokens.append(Wildcard.ONE_CHARACTER)
            case "\\":
                escaped = next(characters, "")
                if not escaped or escaped not in _ESCAPABLE:
                    raise ValueError(f"\\{escaped} means nothing: a backslash precedes only {' '.join(_ESCAPABLE)}")
                tokens.append(escaped)
            case _:
                tokens.append(character)
    return tokens


def _plain(tokens: Sequence[Token]) -> str:
    if any(isinstance(token, Wildcard) for token in tokens):
        raise ValueError("there can be no wildcard here")
    return "".join(str(token) for token in tokens)


def _ranks(field: str, operator: str, value: Sequence[Token]) -> Sequence[str]:
    if field != "severity":
        raise ValueError(f"{operator} compares severities; {field} has no order")
    word = _checked(field, _plain(value))
    rank = SEVERITIES.index(word)
    ranks = {
        ">=": SEVERITIES[rank:],
        ">": SEVERITIES[rank + 1 :],
        "<=": SEVERITIES[: rank + 1],
        "<": SEVERITIES[:rank],
    }[operator]
    if not ranks:
        raise ValueError(f"no alert has a severity {operator} {word}")
    return ranks


def _words(field: str, glob: Glob) -> set[str]:
    words = {word for word in WORDS[field] if glob.accepts(word)}
    if not words:
        raise ValueError(f"no alert has such a {field}: it is one of {', '.join(WORDS[field])}")
    return words


def _checked(field: str, value: str) -> str:
    if not (is_possible(field, value) or (value == "" and can_be_absent(field))):
        known = f"; it is one of {', '.join(WORDS[field])}" if field in WORDS else ""
        raise ValueError(f"no alert has the {field} {value!r}{known}")
    return value
