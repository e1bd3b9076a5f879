"""Globs and witnesses, beside a matcher that tries everything and a search through all short texts."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.routing import witnesses as module
from trio_alerts.routing.globs import Glob, Token, Wildcard
from trio_alerts.routing.witnesses import TooManyCases, witnesses

TOKENS = {"*": Wildcard.ANY_TEXT, "?": Wildcard.ONE_CHARACTER}
PATTERNS = st.text("ab*?", max_size=4)
SHORT = ["".join(text) for length in range(6) for text in itertools.product("abx", repeat=length)]


def tokens(pattern: str) -> list[Token]:
    return [TOKENS.get(character, character) for character in pattern]


def naive(pattern: str, text: str) -> bool:
    """Try every way in which a pattern could match."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


@given(pattern=PATTERNS, text=st.text("abx", max_size=6))
def test_a_glob_matches_as_if_every_way_were_tried(pattern: str, text: str) -> None:
    """Any pattern accepts exactly the texts that it accepts by its definition."""
    assert naive(pattern, text) == Glob(tokens(pattern)).accepts(text)


def test_no_pattern_is_hostile() -> None:
    """A pattern that makes others go back for ever takes one step a character."""
    glob = Glob(tokens("*a" * 40 + "b"))
    started_s = time.perf_counter()

    assert not glob.accepts("a" * 20_000)
    assert (
        time.perf_counter() - started_s < 5
    )  # some hundredths of a second; by trying everything, the age of the world


@given(patterns=st.lists(PATTERNS, max_size=3), literals=st.sets(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_there_is_a_witness_for_each_combination(patterns: list[str], literals: set[str]) -> None:
    """What the witnesses meet is exactly what all short texts meet, and no two of them meet the same."""

    def case(text: str) -> tuple[bool, ...]:
        return (*(naive(pattern, text) for pattern in patterns), text in literals)

    found = [case(text) for text in witnesses([Glob(tokens(pattern)) for pattern in patterns], literals)]

    assert {case(text) for text in SHORT if text} <= set(found)
    assert len(set(found)) == len(found)


def test_witnesses_stay_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns whose product is too large are given up, not computed."""
    monkeypatch.setattr(module, "MAX_STEPS", 1_000)
    globs = [Glob(tokens(f"*{character}" + "?" * 12)) for character in "abcd"]

    with pytest.raises(TooManyCases):
        list(witnesses(globs, ()))
