"""What came of one attempt to send an alert through a channel."""

from typing import ClassVar

from msgspec import Struct


class Accepted(Struct, frozen=True):
    """The receiver has taken the alert."""

    reason: ClassVar[None] = None
    unseen: ClassVar[bool] = False
    needs_human: ClassVar[bool] = False

    status: int | None = None
    answer: str = ""


class Retry(Struct, frozen=True):
    """The attempt failed in a way that may pass.

    Args:
        reason: What happened, in words for a log line, without secrets.
        status: The HTTP status, if there was one.
        after_s: How long the receiver asked us to wait, in seconds.
        unseen: The receiver may have taken the request: nobody saw the outcome.
        answer: The beginning of the receiver's answer.
        needs_human: Waiting alone is unlikely to help: it is logged as an error at once.
    """

    reason: str
    status: int | None = None
    after_s: float | None = None
    unseen: bool = False
    answer: str = ""
    needs_human: bool = False


class Refused(Struct, frozen=True):
    """The receiver said no for good: a human must look."""

    unseen: ClassVar[bool] = False
    needs_human: ClassVar[bool] = True

    reason: str
    status: int | None = None
    answer: str = ""


Outcome = Accepted | Retry | Refused
