"""Text as a person reads it: one line, nothing hidden in it, durations in words, and its words."""

import difflib
import re
from collections.abc import Callable, Iterable

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def one_line(text: str) -> str:
    r"""Return text that others wrote, safe to print: it moves no cursor, hides nothing and adds no line.

    What is not printable is spelled out: a line break as `\n`, an escape as `\x1b`.
    """
    if text.isprintable() and (text.isascii() or _BLANK.isdisjoint(text)):
        return text
    return "".join(map(_spelled_out, text))


# Letters and marks by their category, and nothing to see: joiners, fillers, inherent vowels, Braille's empty cell.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def _spelled_out(character: str) -> str:
    # Also what changes the direction of text: it can make a name look like another one.
    is_seen = character.isprintable() and character not in _BLANK
    return character if is_seen else character.encode("unicode_escape").decode("ascii")


def in_words(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least two: `90 min`, `60 s`, `7.5 s`."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{f'{seconds:.1f}'.removesuffix('.0')} s"


def did_you_mean(word: str, known: Iterable[str], spell: Callable[[str], str] = str) -> str:
    """Return a hint to end a message with, in the spelling of `spell`: ` (did you mean workers?)`, or nothing."""
    closest = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {spell(closest[0])}?)" if closest else ""


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case, as OpenSearch's standard analyzer cuts it (Unicode, annex 29).

    A full stop, colon or apostrophe between two letters, and a stop or comma between two digits, parts no word: `2.4m`,
    `dao:lumen`. Each Chinese character, and each Japanese one of hiragana, is a word.
    """
    return _WORD.findall(_LONE.sub(r" \g<0> ", text.lower()))


_LONE = re.compile(r"[\u3041-\u3096\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_RUN = r"[\w\u0300-\u036f]+"  # with combining accents
_WORD = re.compile(rf"{_RUN}(?:(?:(?<=[^\W\d_])[.:'\u2019\u00b7](?=[^\W\d_])|(?<=\d)[.,;'\u2019](?=\d)){_RUN})*")
