"""What OpenSearch answers: the one place that tells its answers from whatever else may come in their place.

A proxy, a sign-in page, a firewall or a cache can answer any request with any status, 200 included. So nothing is used
of an answer before it was looked at here: its status and content type, then its JSON as the type that belongs to the
request. Everything else has one meaning, an outage: it is no missing record, no missing index, no conflict and no
refusal, and nobody knows whether a write was done. The message says what came, without secrets and without a payload.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import httpx
import msgspec
from msgspec import Meta, Struct
from opensearchpy import TransportError
from opensearchpy.exceptions import HTTP_EXCEPTIONS

from trio_alerts.errors import Unavailable
from trio_alerts.text import one_line

SHOWN_CHARACTERS = 60  # of a foreign answer: enough to recognise a sign-in page or a proxy

T = TypeVar("T")


class UnusableAnswer(Unavailable):
    """What came is of no use; `status` is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AccessDenied(UnusableAnswer):
    """OpenSearch refuses our credentials (401), or forbids the request (403): a human must look; until then, wait."""


class Blocked(UnusableAnswer):
    """The index takes no such request, whoever asks: somebody has blocked it, or a disk is full. That may pass."""


class ForeignAnswer(UnusableAnswer):
    """Something answered that is not OpenSearch, or not in the way that we know."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `read` is the only way to what it says.

    Args:
        place: The node that was asked, without credentials.
        request: What it was asked, such as `POST /alerts/_bulk`.
        response: What came.
        secrets: What must not be shown of it, should it come back to us: credentials, in each of their forms.
    """

    place: str
    request: str
    response: httpx.Response
    secrets: Collection[str] = field(default=(), repr=False)

    def read(self, kind: type[T]) -> T:
        """Return what it says.

        Raises:
            ForeignAnswer: It is no JSON, or not of this kind.
        """
        content = self.response.content
        try:
            content.decode()  # what a type keeps raw is not decoded otherwise
            value: T = _decoder(kind).decode(content)  # type: ignore[arg-type]  # every type can be hashed
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise self.foreign(_reason(fault)) from None
        return value

    def foreign(self, why: str = "") -> ForeignAnswer:
        """Return the error that says what came in place of OpenSearch's answer, and why it is none."""
        came = f"{self.response.status_code} {one_line(_content_type(self.response))[:40] or 'without a content type'}"
        details = "; ".join(part for part in (_first_words(self), why) if part)
        message = f"{self.place} does not answer like OpenSearch: {came} to {self.request} ({details})"
        return ForeignAnswer(message, self.response.status_code)


def check_answer(answer: Answer) -> None:
    """Let a good answer pass, as far as its status and its content type tell.

    Raises:
        TransportError: OpenSearch's own refusal of the request: 400, 404, 409 or another 4xx, as opensearch-py's
            classes. A document that is not there is one too, of status 404 and without an error.
        AccessDenied: It refuses our user, or forbids the request.
        Blocked: The index is blocked for such requests.
        ForeignAnswer: It is not OpenSearch's.
        Unavailable: Waiting may help.
    """
    status = answer.response.status_code
    if status == HTTPStatus.OK:
        if _content_type(answer.response) != "application/json":
            raise answer.foreign()
        return
    if status == HTTPStatus.UNAUTHORIZED:  # the security plugin says it in plain text
        raise AccessDenied("OpenSearch refuses the user name or password (401)", status)
    error = _own_error(answer.response)
    if status == HTTPStatus.FORBIDDEN:
        raise _forbidden(answer, error or _refused_shard(answer.response))
    if (
        status == HTTPStatus.NOT_FOUND
        and "/_doc/" in answer.request
        and (missing := _missing_document(answer.response))
    ):
        raise HTTP_EXCEPTIONS[status](status, "", missing)
    if error is None:
        why = "a redirect, which is never followed" if answer.response.is_redirect else ""
        raise answer.foreign(why)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"OpenSearch answers {status} to {answer.request}: {_says(error)}")
    raise HTTP_EXCEPTIONS.get(status, TransportError)(status, error["type"], {"error": error, "status": status})


def _forbidden(answer: Answer, error: Mapping[str, Any] | None) -> UnusableAnswer:
    """Return the error for a 403: the user lacks a right, the index is blocked for all, or it is not OpenSearch's."""
    if error is None:
        return answer.foreign()
    if error["type"] == "cluster_block_exception":
        return Blocked(f"OpenSearch answers 403 to {answer.request}: {_says(error)}", HTTPStatus.FORBIDDEN)
    return AccessDenied(f"OpenSearch forbids {answer.request} (403): {_says(error)}", HTTPStatus.FORBIDDEN)


def _says(error: Mapping[str, Any]) -> str:
    return one_line(f"{error['type'][:100]}: {without_values(error.get('reason') or '')}".rstrip(": "))


# --- errors ----------------------------------------------------------------------------------------------------------


class _Error(Struct):
    type: Annotated[str, Meta(min_length=1)]
    root_cause: list[dict[str, Any]]
    reason: str | None = None


class _ErrorAnswer(Struct):
    error: _Error
    status: int


class MissingDocument(Struct):
    """The answer to a read by ID where there is no such document; a missing index is an error."""

    id: str = msgspec.field(name="_id")
    index: str = msgspec.field(name="_index")
    found: bool

    def __post_init__(self) -> None:
        if self.found:
            raise ValueError("it says 404 and `found`")


def error_type(error: TransportError) -> str:
    """Return OpenSearch's own name of what went wrong, such as `index_not_found_exception`, or an empty string."""
    return str(_cause(error).get("type", ""))


def error_text(error: TransportError) -> str:
    """Return status, type and reason of a refusal for a human, without what OpenSearch quotes of a document."""
    reason = str(_cause(error).get("reason") or "")
    return one_line(f"{error.status_code} {str(error.error)[:100]}: {without_values(reason)}".rstrip(": "))


def without_values(reason: str) -> str:
    """Shorten a reason that OpenSearch gives, and cut off what it quotes of a document: that may be a secret."""
    return _QUOTED.sub("", reason)[:300]


# What follows these words is, or contains, a value.
_QUOTED = re.compile(
    r"(\. )?(preview of field's value|the prefix of the first immense term is|for input string).*",
    re.IGNORECASE | re.DOTALL,
)


def _cause(error: TransportError) -> Mapping[str, Any]:
    info = error.info if len(error.args) > 2 else None  # noqa: PLR2004 - status, type, body
    cause = info.get("error") if isinstance(info, dict) else None
    return cause if isinstance(cause, dict) else {}


def _own_error(response: httpx.Response) -> dict[str, Any] | None:
    """Return the error of an answer if it is in OpenSearch's own form; a proxy's page is not, JSON or not."""
    if response.status_code < HTTPStatus.BAD_REQUEST or _content_type(response) != "application/json":
        return None
    try:
        info = msgspec.json.decode(response.content)
        own = msgspec.convert(info, _ErrorAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    error: dict[str, Any] = info["error"]
    return error if own.status == response.status_code else None


class _Reason(Struct):
    type: str
    reason: str | None = None


class _Failure(Struct):
    reason: dict[str, Any]


class _Failures(Struct):
    failures: Annotated[list[_Failure], Meta(min_length=1)]


class _RefusedAnswer(Struct):
    shards: _Failures = msgspec.field(name="_shards")


def _refused_shard(response: httpx.Response) -> dict[str, Any] | None:
    """Return why a shard refused what the index had let pass, as the security plugin lets a refresh."""
    try:
        reason = msgspec.json.decode(response.content, type=_RefusedAnswer).shards.failures[0].reason
        msgspec.convert(reason, _Reason)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return reason


def _missing_document(response: httpx.Response) -> MissingDocument | None:
    if _content_type(response) != "application/json":
        return None
    try:
        return msgspec.json.decode(response.content, type=MissingDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# --- kinds -----------------------------------------------------------------------------------------------------------

Count = Annotated[int, Meta(ge=0)]
SeqNo = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Term = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1)]


class Shards(Struct):
    """Which shards took part."""

    total: Count
    successful: Count
    failed: Count

    @property
    def complete(self) -> bool:
        """Whether none was left out."""
        return not self.failed and self.successful == self.total


class RefreshAnswer(Struct):
    """The answer to `POST /<index>/_refresh`."""

    shards: Shards = msgspec.field(name="_shards")


# --- reading ---------------------------------------------------------------------------------------------------------


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, float_hook=Decimal)


def _content_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _reason(fault: Exception) -> str:
    return str(fault) if isinstance(fault, msgspec.ValidationError) else "it is not JSON"


def _first_words(answer: Answer) -> str:
    """Return how a foreign answer begins: of JSON the names in it, else plain words; never what we sent."""
    sent = answer.response.request.content + "\n".join(answer.secrets).encode()
    try:
        value = msgspec.json.decode(answer.response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = answer.response.content[:10_000].decode(errors="replace")
        words = re.sub(r"<(script|style)\b.*?(</\1>|$)|<[^>]*(>|$)", " ", text, flags=re.DOTALL | re.IGNORECASE).split()
    else:
        words = ["{", *value, "}"] if isinstance(value, dict) else [f"a JSON {type(value).__name__}"]
    shown = " ".join(_harmless(word, sent) for word in words[:20])
    return repr(shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…") if words else "empty"


def _harmless(word: str, sent: bytes) -> str:
    """Return a word if it is plain and short, and not one of ours: a page may repeat the request."""
    plain = len(word) <= 20 and re.fullmatch(r"[^\W\d]*[\W\d]{0,3}", word)  # noqa: PLR2004 - longer than a word
    known = len(word) > 3 and word.strip(".,:;!?\"'").encode(errors="replace") in sent  # noqa: PLR2004
    return word if plain and word.isprintable() and not known else "…"
