"""Text that others wrote, made safe to print: it moves no cursor, hides nothing and adds no line."""


def one_line(text: str) -> str:
    r"""Return the text with everything that is not printable spelled out: a line break as `\n`, an escape as `\x1b`."""
    return text if text.isprintable() else "".join(map(_spelled_out, text))


def _spelled_out(character: str) -> str:
    # Also what changes the direction of text: it can make a name look like another one.
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
