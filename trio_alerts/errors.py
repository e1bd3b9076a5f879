"""Every error of the program, named by who must act on it.

An `AlertError` that reaches `__main__` ends the process with its `exit_code` and its message alone: no traceback.
Anything else that gets there is a bug, and shows its traceback. Programs read its `kind`, a word that stays the same.
"""


class AlertError(Exception):
    """Something a user of the program can understand and fix."""

    exit_code = 1
    kind = "failed"


class NotFound(AlertError):
    """What somebody named does not exist, or not any more."""

    kind = "not_found"


class SettingsError(AlertError):
    """A setting or an option is wrong: whoever configures the program fixes it."""

    exit_code = 2
    kind = "settings"


class SchemaError(AlertError):
    """The index cannot be trusted to answer filters: whoever runs the store fixes it. Nothing was consumed."""

    exit_code = 3
    kind = "schema"


class StartError(AlertError):
    """A backend cannot be reached or refuses us at start: whoever runs that backend fixes it."""

    exit_code = 4
    kind = "backend"


class LedgerError(AlertError):
    """The ledger does not balance: somebody must find out where alerts went."""

    exit_code = 5
    kind = "ledger"


class OverThreshold(AlertError):
    """A figure of `stats` is over the threshold of `--fail-over`: somebody must look."""

    exit_code = 5
    kind = "over_threshold"


class QuarantineHalt(AlertError):
    """Too many entries in a row were quarantined: the producer must be broken, and whoever runs it must look."""

    exit_code = 5
    kind = "quarantine_halt"


class Unavailable(AlertError):
    """A backend does not answer, or says "not now": waiting may help. Whether a write happened is unknown."""

    kind = "unavailable"


class Stopping(AlertError):
    """A wait ended because the process is stopping: nobody has to act, the entry stays pending."""


class ParseFault(AlertError):
    """An entry is not a valid AlertEvent and never will be: its producer must look. The entry goes to quarantine.

    Args:
        reason: A short, closed-set word for counting, such as `missing_event`.
        message: What is wrong and where, without the payload.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RefusedContent(AlertError):
    """The store refuses a record because of its content, and always will: the entry goes to quarantine.

    Args:
        message: What was refused, and why.
        reason: A short, closed-set word for counting.
    """

    def __init__(self, message: str, reason: str = "refused_content") -> None:
        super().__init__(message)
        self.reason = reason


class NewerRecord(AlertError):
    """A record that a newer version of the program wrote: this one leaves it alone, and a newer process goes on.

    Whoever runs the program finishes the upgrade, or looks who else writes to the store.

    Args:
        record_id: The record.
        unknown: What in it this version does not know, such as `delivery.state 'paused'`.
        body: The alert's part of the document.
    """

    def __init__(self, record_id: str, unknown: str, body: bytes = b"{}") -> None:
        super().__init__(f"a newer version wrote record {record_id!r:.600}: this one does not know {unknown}")
        self.record_id = record_id
        self.unknown = unknown
        self.body = body


class Interrupted(AlertError):
    """A signal ended the process in the middle of its work: others, or the next call, go on with what was cut."""

    kind = "interrupted"
