"""Text as a person reads it."""

import pytest

from trio_alerts.text import did_you_mean, in_words, one_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 中 ⚠\ufe0f", "plain é 中 ⚠\ufe0f"),
        ("a\tb\r\n", r"a\tb\r\n"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eabc", r"\u202eabc"),
        ("a\u3164b\u034f", r"a\u3164b\u034f"),
    ],
)
def test_one_line_spells_out_what_is_not_printable(text: str, expected: str) -> None:
    """Letters of all languages stay; what moves the cursor or turns text around is spelled out."""
    assert expected == one_line(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (7.46, "7.5 s"), (60, "60 s"), (119.96, "120 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_a_duration_has_the_largest_unit_of_which_there_are_two(seconds: float, words: str) -> None:
    """Two digits are enough to judge by, and no unit hides half of what it says."""
    assert words == in_words(seconds)


def test_the_closest_known_word_is_offered() -> None:
    """A slip of the finger is answered with the word that was meant, as its source spells it; nonsense is not."""
    known = ("workers", "batch")

    assert " (did you mean workers?)" == did_you_mean("workres", known)
    assert " (did you mean --workers?)" == did_you_mean("workres", known, "--{}".format)
    assert "" == did_you_mean("xyzzy", known)
