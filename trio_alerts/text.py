"""Text as a person reads it: one line, nothing hidden in it, durations in words, and the word that was meant."""

import difflib
from collections.abc import Callable, Iterable

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def one_line(text: str) -> str:
    r"""Return text that others wrote, safe to print: it moves no cursor, hides nothing and adds no line.

    What is not printable is spelled out: a line break as `\n`, an escape as `\x1b`.
    """
    return text if text.isprintable() else "".join(map(_spelled_out, text))


def _spelled_out(character: str) -> str:
    # Also what changes the direction of text: it can make a name look like another one.
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


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
