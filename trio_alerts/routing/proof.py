"""Proves that every alert there can be leads somewhere, and that every route can be reached.

Routes tell alerts apart only by the fields that they name and by the time. So of each field it looks at one value for
each set of matchers that a value can satisfy, and of the time at one for each set of windows that can be open together.
The routes that such a value leaves are a set of bits, one a route. The sets of one field after the other are combined,
and combinations that leave the same routes are one from there on. That is exact: values of different fields, and times,
meet freely.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from operator import and_, or_

from trio_alerts.routing.matchers import WORDS, Matcher, can_be_absent, is_possible
from trio_alerts.routing.route import Route
from trio_alerts.routing.windows import Window, representative_times
from trio_alerts.routing.witnesses import TooManyCases, witnesses
from trio_alerts.text import one_line

MAX_CELLS = 100_000  # some tenths of a second of CPU
_FORMS = {"chain_id": "{}", "schema_version": "1.{}"}  # what a value looks like that nobody names, by field


@dataclass(frozen=True)
class Proof:
    """What is known about all alerts.

    Args:
        problems: Why these routes must not be used.
        warnings: What is allowed but not wise, or could not be found out.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cell:
    """One value of a field, or one time: how it is shown, and the routes that it leaves, a bit each."""

    shown: str
    routes: int


_Reached = Mapping[int, tuple[_Cell, ...]]  # by the routes that match: an example of such an alert


def prove(routes: Sequence[Route], since: dt.datetime) -> Proof:
    """Find alerts that no route takes, and routes that no alert reaches, in the year from `since` on."""
    try:
        fields = dict.fromkeys(matcher.field for route in routes for matcher in route.matchers)
        cells = {field: _cells(field, routes, _values(field, routes)) for field in fields}
        times = _times(routes, since)
        reached = _combined(*cells.values(), times)
        if "severity" in cells:
            cells["severity"] = [replace(cell, shown="") for cell in _cells("severity", routes, ["critical"])]
        critical = _combined(*cells.values(), times)
    except TooManyCases:
        return _unproven(routes)
    return Proof((*_holes(reached), *_dead(routes, reached)), tuple(_lone_channels(routes, critical)))


def can_all_match(matchers: Sequence[Matcher]) -> bool:
    """Say whether there can be an alert that all of these match; what takes too long to find out counts as yes."""
    route = Route("", tuple(matchers), (), (), continues=False)
    fields = {matcher.field for matcher in matchers}
    try:
        return all(any(cell.routes for cell in _cells(field, [route], _values(field, [route]))) for field in fields)
    except TooManyCases:
        return True


def _values(field: str, routes: Sequence[Route]) -> Iterator[str | None]:
    """Yield a value for every set of a field's matchers that one value can satisfy; None: the field is absent."""
    matchers = [matcher for route in routes for matcher in route.matchers if matcher.field == field]
    if field in WORDS:
        yield from WORDS[field]
        return
    if can_be_absent(field):
        yield None
    literals = {literal for matcher in matchers for literal in matcher.literals}
    if field in _FORMS:
        others: Iterator[str] = (_FORMS[field].format(number) for number in count(1))
        yield next(other for other in others if other not in literals)
    else:
        yield from witnesses([glob for matcher in matchers for glob in matcher.globs], literals)
    yield from sorted({*literals, ""})


def _cells(field: str, routes: Sequence[Route], values: Iterable[str | None]) -> Sequence[_Cell]:
    asked = [(bit, matcher) for bit, route in enumerate(routes) for matcher in route.matchers if matcher.field == field]
    named: dict[int, str] = {}  # which of these matchers name a value, a bit each, and an example of one
    absent: dict[int, str] = {}
    for value in values:
        if value is None:
            absent[_bits(matcher.absent for _, matcher in asked)] = f"no {field}"
        elif is_possible(field, value):
            named.setdefault(_bits(matcher.names(value) for _, matcher in asked), f"{field} = {_shown(value)}")
    if field == "addresses":  # an alert has several: what any of them satisfies is satisfied
        named = _unions(named)
    cells: dict[int, _Cell] = {}
    for bits, shown in (absent | {bits: shown for bits, shown in named.items() if bits not in absent}).items():
        left = _everything(routes)
        for number, (bit, matcher) in enumerate(asked):
            if bool(bits >> number & 1) == matcher.negated:
                left &= ~(1 << bit)
        cells.setdefault(left, _Cell(shown, left))
    return list(cells.values())


def _times(routes: Sequence[Route], since: dt.datetime) -> Sequence[_Cell]:
    windows = list(dict.fromkeys(window for route in routes for window in route.windows))
    if not windows:
        return [_Cell("", _everything(routes))]
    place = windows[0].zone
    met: set[frozenset[Window]] = set()
    cells: dict[int, _Cell] = {}
    for time in representative_times(windows, since):
        opened = frozenset(window for window in windows if window.is_open(time))
        if opened not in met:
            met.add(opened)
            left = _bits(route.is_active(time) for route in routes)
            cells.setdefault(left, _Cell(f"on {time.astimezone(place):%A, %Y-%m-%d at %H:%M} in {place}", left))
    return list(cells.values())


def _unions(named: Mapping[int, str]) -> dict[int, str]:
    found = dict(named)
    waiting = list(named)
    for bits in waiting:  # it grows meanwhile
        for single, shown in named.items():
            if bits | single not in found:
                found[bits | single] = f"{found[bits]} and {shown}"
                waiting.append(bits | single)
        if len(waiting) * len(named) > MAX_CELLS:
            raise TooManyCases
    return found


def _combined(*dimensions: Sequence[_Cell]) -> _Reached:
    """Return every set of routes that one alert can match.

    Raises:
        TooManyCases: There are more than `MAX_CELLS` combinations to look at.
    """
    reached: _Reached = {-1: ()}
    looked_at = 0
    for cells in dimensions:
        looked_at += len(reached) * len(cells)
        if looked_at > MAX_CELLS:
            raise TooManyCases
        combined: dict[int, tuple[_Cell, ...]] = {}
        for routes, example in reached.items():
            for cell in cells:
                combined.setdefault(routes & cell.routes, (*example, cell))
        reached = combined
    return reached


def _holes(reached: _Reached) -> Iterator[str]:
    if 0 in reached:
        example = _example(_smallest_hole(reached[0]))
        remedy = "add a last route without conditions, with channels or with suppress = true"
        yield f"an alert that no route matches would lead nowhere, such as: {example}; {remedy}"


def _dead(routes: Sequence[Route], reached: _Reached) -> Iterator[str]:
    live: set[int] = set()
    deciders: dict[int, set[int]] = {}  # by the number of a route, those that decide before it on what it matches
    for matching in reached:
        taken = _taken(routes, matching)
        live.update(taken)
        for number in range(len(routes)):
            if matching >> number & 1 and number not in taken:
                deciders.setdefault(number, set()).add(taken[-1])
    for number, route in enumerate(routes):
        if number not in live:
            before = ", ".join(repr(routes[decider].name) for decider in sorted(deciders.get(number, ())))
            why = f"every alert that it matches is decided by {before}" if before else "no alert meets its conditions"
            yield f"route {route.name!r} (number {number + 1}): it is never reached: {why}"


def _lone_channels(routes: Sequence[Route], critical: _Reached) -> Iterator[str]:
    if len({name for route in routes for name in route.reached}) == 1:
        return  # it is known that there is no other
    lone: dict[str, str] = {}
    for matching, example in critical.items():
        channels = {name for number in _taken(routes, matching) for name in routes[number].reached}
        if len(channels) == 1:
            lone.setdefault(channels.pop(), _example(example))
    for name, shown in lone.items():
        yield f"critical alerts reach nobody while channel {name!r} fails" + (shown and f", such as: {shown}")


def _taken(routes: Sequence[Route], matching: int) -> Sequence[int]:
    """Return the numbers of the routes that take part in the decision on an alert: to the first that does not go on."""
    taken = []
    for number, route in enumerate(routes):
        if matching >> number & 1:
            taken.append(number)
            if not route.continues:
                break
    return taken


def _unproven(routes: Sequence[Route]) -> Proof:
    why = f"the routes tell more kinds of alerts apart than can be looked at ({MAX_CELLS:,})"
    if any(not (route.matchers or route.windows) for route in routes):
        return Proof(warnings=(f"could not prove that every route can be reached: {why}",))
    remedy = "add a last route without conditions, with channels or with suppress = true"
    return Proof((f"could not prove that every alert leads somewhere: {why}; {remedy}",))


def _smallest_hole(cells: Sequence[_Cell]) -> Sequence[_Cell]:
    """Leave out what does not matter: the others alone leave no route."""
    kept = list(cells)
    for cell in cells:
        others = [other for other in kept if other is not cell]
        if others and not reduce(and_, (other.routes for other in others)):
            kept = others
    return kept


def _example(cells: Sequence[_Cell]) -> str:
    return ", ".join(cell.shown for cell in cells if cell.shown)


def _everything(routes: Sequence[Route]) -> int:
    return (1 << len(routes)) - 1


def _bits(flags: Iterable[bool]) -> int:
    return reduce(or_, (1 << number for number, flag in enumerate(flags) if flag), 0)


def _shown(value: str) -> str:
    text = one_line(value)
    return text if re.fullmatch(r"[\w.:/-]+", text) else f'"{text}"'
