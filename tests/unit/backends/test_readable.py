"""What a search found and somebody broke by hand."""

from tests.contracts.store import record
from trio_alerts.backends.readable import readable_records

BROKEN = '{"delivery":{"state":"sent"}}'


def test_what_cannot_be_read_is_left_out() -> None:
    """One broken document hides no other."""
    documents: list[tuple[str, bytes | str]] = [
        ("0", BROKEN),
        (record(1).id, record(1).to_json()),
        ("2", "{"),
        (record(3).id, record(3).to_json()),
    ]

    assert [record(1), record(3)] == readable_records(documents)
