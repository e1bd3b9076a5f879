"""Text that must never be printed: it shows itself only when asked."""

import base64
from pathlib import Path


class Secret:
    """Text that must not be seen: only `reveal()` returns it, every way of printing it shows `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. What is made from it must not reach a log, a record or a message."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def signing_key(secret: Secret) -> bytes:
    """Return the HMAC key of a Standard Webhooks secret: its base64 decoded, without the prefix `whsec_`.

    Raises:
        ValueError: It is empty or not base64. (The official libraries skip what is not base64, and the two ends would
            then sign with different keys.)
    """
    text = secret.reveal().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("it is not base64") from None
    if not key:
        raise ValueError("it is empty")
    return key


def read_secret_file(path: object) -> str:
    """Return what a file holds, without the line breaks at its end.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not text, or `path` is not a path.
    """
    if not isinstance(path, str):
        raise ValueError("the path of a file must be text")  # noqa: TRY004 - becomes a problem of the setting
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None
