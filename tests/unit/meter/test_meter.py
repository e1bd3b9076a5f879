"""The meter: what is counted where, and that nothing which others wrote can make it fail."""

import datetime as dt

import pytest
from msgspec.structs import replace

from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.meter.layout import BATCHES, LATENCIES, REASONS, RESULTS, STATES, Layout, width
from trio_alerts.meter.meter import LONGEST_S, Meter
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.record import Record

LAYOUT = Layout(["pager", "desk"])
ADDED_MS = 1_790_000_000_000
BODY = b'{"severity_rank":3}'
SENDING = Delivery(state="sending", channels=(ChannelDelivery("pager", "sending"), ChannelDelivery("desk", "sending")))


def delivered(after_s: float, record_id: str = f"{ADDED_MS}-0", body: bytes = BODY) -> Record:
    at = dt.datetime.fromtimestamp(ADDED_MS / 1000 + after_s, dt.UTC)
    return Record(record_id, body, replace(SENDING, state="delivered", delivered_at=at))


def counted(meter: Meter) -> dict[int, int]:
    return {place: count for place, count in enumerate(meter.cells) if count}


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Accepted(), "accepted"),
        (Retry("503"), "retry"),
        (Retry("reset", unseen=True), "unseen"),
        (Refused("410"), "refused"),
        (Later("limit", 5.0), "limited"),
    ],
)
@pytest.mark.parametrize(("channel", "place"), [("desk", 2), ("old-desk", 2), ("gone", 0)])
def test_an_attempt_counts_by_channel_and_result(
    outcome: Outcome | Later, result: str, channel: str, place: int
) -> None:
    """An alias is its channel, and one that the settings do not name is `other`; the time is in microseconds."""
    meter = Meter(LAYOUT, aliases={"old-desk": "desk"})
    meter.attempted(channel, outcome, 0.02)
    begin = LAYOUT.durations + place * (width(BATCHES) + 3)
    assert {
        LAYOUT.attempts + place * len(RESULTS) + RESULTS.index(result): 1,
        begin + 2: 1,
        begin + 14: 20_000,
    } == counted(meter)


def test_a_state_counts_when_it_is_reached() -> None:
    """A write that leaves the state as it was counts nothing."""
    meter, state = Meter(LAYOUT), LAYOUT.states + STATES.index("retrying")
    retrying = Record(f"{ADDED_MS}-0", BODY, replace(SENDING, state="retrying"))
    meter.wrote(None, replace(retrying, delivery=SENDING))
    assert {} == counted(meter)
    meter.wrote(SENDING, retrying)
    meter.wrote(retrying.delivery, retrying)
    assert {state: 1} == counted(meter)


@pytest.mark.parametrize(
    ("after_s", "bucket", "sum_s"),
    [
        (0.0, 0, 0),
        (0.004, 0, 0.004),
        (0.006, 1, 0.006),
        (86_400, len(LATENCIES) - 1, 86_400),
        (86_401, len(LATENCIES), 86_401),
        (10 * LONGEST_S, len(LATENCIES), LONGEST_S),
        (-5.0, 0, 0),
    ],
)
def test_latency_is_from_the_id_to_acceptance(after_s: float, bucket: int, sum_s: float) -> None:
    """By severity; a clock that was set back counts as no time, and what is older than any alert fills no sum."""
    meter = Meter(LAYOUT)
    meter.wrote(SENDING, delivered(after_s))
    begin = LAYOUT.latencies + 3 * width(LATENCIES)
    assert 1 == meter.cells[begin + bucket]
    assert pytest.approx(sum_s * 1e6, abs=2000) == meter.cells[begin + len(LATENCIES) + 1]
    assert 1 == meter.cells[LAYOUT.states + STATES.index("delivered")]


@pytest.mark.parametrize(
    ("record_id", "body"),
    [
        ("made-up", BODY),
        ("", BODY),
        ("stream|1-1", BODY),
        ("18446744073709551615-1", BODY),
        (f"{ADDED_MS}-0", b'{"severity_rank":99}'),
        (f"{ADDED_MS}-0", b'{"severity_rank":-99}'),
        (f"{ADDED_MS}-0", b"{}"),
    ],
)
def test_a_record_that_somebody_made_up_fails_nothing(record_id: str, body: bytes) -> None:
    """It is counted as delivered, and nothing is counted outside of the latencies."""
    meter = Meter(LAYOUT)
    meter.wrote(SENDING, delivered(1.0, record_id, body))
    ends = LAYOUT.latencies + 5 * width(LATENCIES)
    assert {LAYOUT.states + STATES.index("delivered")} == {
        place for place in counted(meter) if not LAYOUT.latencies <= place < ends
    }


def test_a_doubt_counts_by_channel() -> None:
    """As many as were added to each channel since the record was read."""
    meter = Meter(LAYOUT)
    parts = (ChannelDelivery("pager", "retrying", in_doubt=1), ChannelDelivery("desk", "delivered"))
    meter.wrote(SENDING, Record("1-1", BODY, replace(SENDING, state="retrying", in_doubt=1, channels=parts)))
    assert [0, 1, 0] == list(meter.cells[LAYOUT.doubts : LAYOUT.doubts + 3])


def test_a_reason_that_nobody_knows_is_other() -> None:
    """What stands in a record of old must not make a label."""
    meter = Meter(LAYOUT)
    for reason in ("bad_json", "bad_json", "x" * 1000):
        meter.quarantined(reason)
    begin = LAYOUT.quarantined
    assert {begin + REASONS.index("bad_json"): 2, begin + REASONS.index("other"): 1} == counted(meter)


def test_batches_count_by_backend() -> None:
    """A batch of the size of a bucket is in it; the sum is in items."""
    meter = Meter(LAYOUT)
    count = meter.batches("store")
    for items in (1, 2, 3, 5000):
        count(items)
    begin = LAYOUT.batches + width(BATCHES)
    assert {begin: 1, begin + 1: 1, begin + 2: 1, begin + len(BATCHES): 1, begin + len(BATCHES) + 1: 5006} == counted(
        meter
    )
