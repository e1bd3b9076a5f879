"""What came of one attempt to send an alert through a channel."""

from typing import ClassVar

from msgspec import Struct


class Accepted(Struct, frozen=True):
    """The receiver has taken the alert.

    Args:
        status: The HTTP status, or SMTP's code, if there was one.
        answer: The beginning of the receiver's answer.
        reference: What the service calls the message, such as Slack's `ts`.
    """

    reason: ClassVar[None] = None
    unseen: ClassVar[bool] = False
    needs_human: ClassVar[bool] = False

    status: int | None = None
    answer: str = ""
    reference: str = ""


class Retry(Struct, frozen=True):
    """The attempt failed in a way that may pass.

    Args:
        reason: What happened, in words for a log line, without secrets.
        status: The HTTP status, or SMTP's code, if there was one.
        after_s: How long the receiver asked us to wait, in seconds.
        unseen: The receiver may have taken the request: nobody saw the outcome.
        answer: The beginning of the receiver's answer.
        needs_human: Waiting alone is unlikely to help: it is logged as an error at once.
        stop: It is the service's own word that it takes no alert from us: one such answer opens the channel's breaker.
    """

    reference: ClassVar[str] = ""

    reason: str
    status: int | None = None
    after_s: float | None = None
    unseen: bool = False
    answer: str = ""
    needs_human: bool = False
    stop: bool = False


class Refused(Struct, frozen=True):
    """The receiver said no for good: a human must look."""

    unseen: ClassVar[bool] = False
    needs_human: ClassVar[bool] = True
    reference: ClassVar[str] = ""

    reason: str
    status: int | None = None
    answer: str = ""


class Later(Struct, frozen=True):
    """The service is well and took nothing: it named a limit, which no alert is to blame for.

    Args:
        after_s: How long to send nothing to it, in seconds.
    """

    unseen: ClassVar[bool] = False
    needs_human: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    reason: str
    after_s: float
    status: int | None = None
    answer: str = ""


class Malformed(Struct, frozen=True):
    """The service refused our formatting, and took nothing: a channel sends the text alone, in the same attempt.

    It never leaves its channel: a text that is refused, too, is `Refused`.
    """

    reason: str
    status: int | None = None
    answer: str = ""


Outcome = Accepted | Retry | Refused
