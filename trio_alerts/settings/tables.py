"""Tables of settings that describe themselves: each field of the dataclass is one setting."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

import msgspec

from trio_alerts.settings.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One setting as users see it.

    Args:
        name: In TOML; other sources spell it in their own way.
        attribute: The field of the dataclass.
        kind: What it may be.
        meaning: One or two sentences.
        default: In words; None if it must be given.
        section: The heading that it stands under; empty in a table without headings.
    """

    name: str
    attribute: str
    kind: Kind
    meaning: str
    default: str | None
    section: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names by which it may be given: its own, and that of the file that holds the value."""
        return (self.name, f"{self.name}_file") if self.kind.in_file else (self.name,)


def about(kind: Kind, meaning: str, default: str = "", *, section: str = "", name: str = "") -> dict[str, object]:
    """Return the metadata of a field; see `Setting`.

    The default is put in words where the value does not say it; the name is given where it is a keyword of Python's.
    """
    return {"kind": kind, "meaning": meaning, "default": default, "section": section, "name": name}


def setting(default: T, kind: Kind, meaning: str, shown: str = "", *, section: str = "", name: str = "") -> T:
    """Return a field with a default value, which `shown` puts in words; see `about`."""
    return field(default=default, metadata=about(kind, meaning, shown, section=section, name=name))


def describe(table: type[Any]) -> dict[str, Setting]:
    """Describe every setting of a table by its name, in order."""
    described = {}
    section = ""
    for one in fields(table):
        if not one.metadata:  # `channels` and `routes`: tables of their own
            continue
        section = one.metadata["section"] or section
        value = one.default if one.default_factory is MISSING else one.default_factory()
        default = one.metadata["default"] or (None if value is MISSING else _in_words(value))
        name = one.metadata["name"] or one.name
        described[name] = Setting(name, one.name, one.metadata["kind"], one.metadata["meaning"], default, section)
    return described


def changed(table: object) -> dict[str, object]:
    """Return, by name, the settings whose values differ from their defaults, but for those that may hold a secret."""
    standard = type(table)()
    return {
        one.name: value
        for one in describe(type(table)).values()
        if not one.kind.secret
        if (value := getattr(table, one.attribute)) != getattr(standard, one.attribute)
    }


def as_toml(value: object) -> str:
    """Return a setting's value as the file of settings has it."""
    return msgspec.json.encode(str(value) if is_dataclass(value) else value, enc_hook=str).decode()


def _in_words(value: object) -> str:
    match value:
        case None | () | {}:
            return "none"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}"
        case tuple():
            return ", ".join(_in_words(one) for one in value)
    return f"`{value}`"
