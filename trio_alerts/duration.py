"""How long something took, as people say it."""

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def in_words(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least two: `90 min`, `60 s`, `7.5 s`."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{f'{seconds:.1f}'.removesuffix('.0')} s"
