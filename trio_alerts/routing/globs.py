"""Globs: `*` is any text, `?` one character. Matching takes one step a character, whatever the pattern."""

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto


class Wildcard(Enum):
    """What stands for text that is not named."""

    ANY_TEXT = auto()
    ONE_CHARACTER = auto()


Token = str | Wildcard  # a text is one character, which stands for itself


class Glob:
    """A compiled pattern.

    It runs as a set of positions in the pattern, the bits of an integer (the shift-and algorithm of Baeza-Yates and
    Gonnet): no input makes it go back. The proof of the routes walks through the same positions.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        characters = [token for token in tokens if token is not Wildcard.ANY_TEXT]
        self.end = len(characters)
        self._stars = 0  # positions where any text may stand
        position = 0
        for token in tokens:
            if token is Wildcard.ANY_TEXT:
                self._stars |= 1 << position
            else:
                position += 1
        self._any = sum(1 << at for at, token in enumerate(characters) if token is Wildcard.ONE_CHARACTER)
        self._moves: Counter[str] = Counter()
        for at, token in enumerate(characters):
            if isinstance(token, str):
                self._moves[token] |= 1 << at

    @property
    def characters(self) -> frozenset[str]:
        """The characters that it names."""
        return frozenset(self._moves)

    def accepts(self, text: str) -> bool:
        """Say whether all of a text matches."""
        positions = 1
        open_end = self._stars & 1 << self.end
        for character in text:
            positions = self.step(positions, character)
            if not positions:
                return False
            if positions & open_end:
                return True
        return self.is_end(positions)

    def step(self, positions: int, character: str) -> int:
        """Return where a character leads from any of these positions; 1 is the start, 0 is nowhere."""
        return (positions & (self._moves[character] | self._any)) << 1 | positions & self._stars

    def is_end(self, positions: int) -> bool:
        """Say whether the text may end here."""
        return bool(positions >> self.end & 1)
