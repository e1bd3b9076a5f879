"""Which record an entry belongs to."""

import pytest

from trio_alerts.record_ids import RecordIds

ONE = RecordIds(["a"])
SEVERAL = RecordIds(["a", "b|c"])


@pytest.mark.parametrize(
    ("ids", "stream", "expected"), [(ONE, "a", "1-0"), (SEVERAL, "a", "a|1-0"), (SEVERAL, "b|c", "b|c|1-0")]
)
def test_a_record_id_leads_back_to_its_entry(ids: RecordIds, stream: str, expected: str) -> None:
    """With several streams it tells which; a stream's name may hold the separator."""
    assert expected == ids.of(stream, "1-0")
    assert (stream, "1-0") == ids.place(expected)


@pytest.mark.parametrize(
    ("ids", "record_id"),
    [(ONE, "a|1-0"), (SEVERAL, "1-0"), (SEVERAL, "c|1-0"), (ONE, "x"), (ONE, "-"), (ONE, "1-0-0"), (SEVERAL, "a|")],
)
def test_what_is_none_of_ours_leads_nowhere(ids: RecordIds, record_id: str) -> None:
    """Records of other streams, of another number of streams, or of nothing."""
    assert ids.place(record_id) is None


@pytest.mark.parametrize(
    ("ids", "value", "expected"),
    [
        (ONE, b"5-1", "5-1"),
        (ONE, b"4-99", "4-99"),
        (ONE, b"a|5-1", "a|5-1"),
        (SEVERAL, b"a|5-1", "a|5-1"),
        (SEVERAL, b"5-1", "5-1"),
        (ONE, b"5-2", None),
        (ONE, b"6-0", None),
        (ONE, b"10-0", None),
        (SEVERAL, b"b|c|5-1", None),
        (ONE, b"05-1", None),
        (ONE, b"5-1\n", None),
        (ONE, b"a|a|5-1", None),
        (ONE, "\N{ARABIC-INDIC DIGIT FIVE}-1".encode(), None),
        (ONE, b"\xff", None),
        (ONE, b"", None),
    ],
)
def test_a_replay_belongs_to_an_older_entry_of_its_stream(ids: RecordIds, value: bytes, expected: str | None) -> None:
    """In either form, since the record may be older than the setting; never to an entry that is still to come."""
    assert expected == ids.of_replay("a", "5-2", {b"replay_of": value})


def test_an_entry_without_the_field_is_no_replay() -> None:
    """Nearly all are that."""
    assert ONE.of_replay("a", "5-2", {b"event": b"{}"}) is None
