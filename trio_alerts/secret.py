"""What must never be printed: a text that shows itself only when asked."""

import base64
import re
from urllib.parse import SplitResult, urlsplit

from trio_alerts.http.hosts import split_host


class Secret:
    """A text that must not be seen: only `reveal()` gives it away, every way of printing it shows `***`."""

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


class SecretUrl(Secret):
    """An address that can hold a secret: printed as scheme and host, since an http path is often a secret itself.

    Its scheme is kept in lower case, as those who take it apart expect it.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        scheme, separator, rest = text.partition("://")
        super().__init__(scheme.lower() + separator + rest)

    def __repr__(self) -> str:
        try:
            url = split_url(self._text)
            hosts = ",".join(hosts_of(url))
        except ValueError:
            return "***"
        # Behind an unescaped "/", "?" or "#" of a password, its beginning looks like the host.
        if "@" in url.path + url.query + url.fragment:
            return f"{url.scheme}://***"
        return f"{url.scheme}://{hosts}{'' if url.scheme in ('http', 'https') else url.path}"

    @property
    def scheme(self) -> str:
        """The part before `://`, in lower case."""
        return self._text.partition("://")[0]

    @property
    def has_user(self) -> bool:
        """Whether a user or a password stands in it."""
        return bool(split_url(self._text).netloc.rpartition("@")[0])

    @property
    def host(self) -> str:
        """The only host, without its port; an IPv6 address in brackets."""
        return split_host(hosts_of(split_url(self._text))[0])[0]


def signing_key(secret: Secret) -> bytes:
    """Return the HMAC key of a Standard Webhooks secret: what its base64 stands for, `whsec_` left out.

    Raises:
        ValueError: It is empty or no base64. (The official libraries skip what is no base64, and the two ends would
            then sign with different keys.)
    """
    text = secret.reveal().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("it is no base64") from None
    if not key:
        raise ValueError("it is empty")
    return key


def split_url(value: object) -> SplitResult:
    """Split a URL, as `urlsplit`, but refuse what that lets pass, and let several hosts stand in it.

    Raises:
        ValueError: It is no URL, or has characters that none may have.
    """
    # urlsplit silently drops line breaks and tabs.
    if not isinstance(value, str) or not value.isprintable() or " " in value or "://" not in value:
        raise ValueError
    scheme, _, rest = value.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    credentials, at, hosts = authority.rpartition("@")
    first = hosts.partition(",")[0]
    try:
        # The first host stands for all: Python 3.13 takes the brackets of a later one for a mistake.
        url = urlsplit(f"{scheme}://{credentials}{at}{first}{rest[len(authority) :]}")
    except ValueError:  # its message repeats the address
        raise ValueError("it is no address") from None
    return url._replace(netloc=authority)


def hosts_of(url: SplitResult) -> list[str]:
    """Return each host with its port, without user and password; one empty text where there is none."""
    if url.netloc.count("@") > 1:
        raise ValueError('user and password stand once, before the first host, and a "@" in them is written %40')
    hosts = url.netloc.rpartition("@")[2].split(",")
    for host in filter(None, hosts):
        split_host(host)
    return hosts
