"""Witnesses: for any set of patterns, a text for each combination of them that a text can meet."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence

from trio_alerts.routing.globs import Glob

MAX_STEPS = 200_000  # half a second of CPU; ten patterns as people write them take some thousands
_PLAIN = "xyzabcdefghijklmnopqrstuvw0123456789"
_HAN = 0x4E00  # more characters than anybody names, all of them printable and without case


class TooManyCases(Exception):
    """There are more combinations than can be looked at."""


def witnesses(globs: Sequence[Glob], literals: Collection[str]) -> Iterator[str]:
    """Yield a shortest text, never an empty one, for each set of globs that can match together.

    Each set is met once by one of the literals and once by a text that is none of them, where there are such texts. It
    walks through the product of the globs' positions and the literals' beginnings, breadth first. Beside the characters
    that are named one other is enough, because all others lead the same way.

    Raises:
        TooManyCases: There are more than `MAX_STEPS` steps in that product.
    """
    following: dict[str, set[str]] = {}  # by each beginning of a literal, the characters that may come next
    for literal in literals:
        for end in range(len(literal) + 1):
            following.setdefault(literal[:end], set()).update(literal[end : end + 1])
    named = set().union(*(glob.characters for glob in globs))
    other = _other_than(named.union(*literals))
    start = tuple(1 for _ in globs)
    seen: set[tuple[tuple[int, ...], str | None]] = {(start, "")}
    waiting = deque([(start, "")])
    met: set[tuple[tuple[bool, ...], bool]] = set()
    steps = 0
    while waiting:
        positions, text = waiting.popleft()
        for character in (other, *sorted(named | following.get(text, set()))):
            steps += 1
            if steps > MAX_STEPS:
                raise TooManyCases
            longer = text + character
            after = tuple(glob.step(at, character) for glob, at in zip(globs, positions, strict=True))
            # What is no literal's beginning never becomes one again.
            state = (after, longer if longer in following else None)
            if state in seen:
                continue
            seen.add(state)
            waiting.append((after, longer))
            case = (tuple(glob.is_end(at) for glob, at in zip(globs, after, strict=True)), longer in literals)
            if case not in met:
                met.add(case)
                yield longer


def _other_than(characters: set[str]) -> str:
    plain = (character for character in _PLAIN if character not in characters)
    han = (chr(code) for code in range(_HAN, _HAN + len(characters) + 1) if chr(code) not in characters)
    return next(plain, None) or next(han)
