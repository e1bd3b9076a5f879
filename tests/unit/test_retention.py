"""Which records may go."""

import datetime as dt

import pytest
from msgspec.structs import replace

from tests.contracts.store import NOW, SECOND, delivered, record, retrying
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import ChannelDelivery, ChannelState, Delivery
from trio_alerts.held_back import wait_expired
from trio_alerts.record import Record
from trio_alerts.retention import is_settled
from trio_alerts.transitions import lease_expired, quarantined, suppressed

LATER = NOW + SECOND  # than everything that happened to these records
SILENCED = replace(suppressed("silence:1"), channels=(ChannelDelivery("hook", "suppressed", attempts=0),))


def of(state: ChannelState, **others: object) -> Delivery:
    hooks = (ChannelDelivery("hook", "delivered"), ChannelDelivery("other", state))
    return replace(delivered(record()).delivery, channels=hooks, **others)


@pytest.mark.parametrize(
    "delivery",
    [
        delivered(record()).delivery,
        of("spared"),
        of("suppressed"),
        of("failed"),
        Delivery(state="failed", channels=(ChannelDelivery("hook", "failed"),)),
        suppressed("rule"),
        SILENCED,
    ],
)
def test_what_is_final_may_go(delivery: Delivery) -> None:
    """Delivered, failed or suppressed, with every channel at its end."""
    assert is_settled(record(1, delivery), LATER, ())


@pytest.mark.parametrize(
    "delivery",
    [
        record().delivery,
        retrying(NOW),
        quarantined(record().delivery, "max_deliveries"),
        Delivery(state="in_doubt", channels=(ChannelDelivery("hook", "in_doubt"),)),
        Delivery(state="waiting", queues=("hook",), channels=(ChannelDelivery("hook", "waiting"),)),
        of("in_doubt"),
        of("standby"),
        of("waiting"),
        of("retrying"),
        of("sending"),
        of("spared", next_attempt_at=NOW),
        of("spared", lease_until=NOW),
        of("spared", queues=("hook",)),
    ],
)
def test_what_somebody_may_still_do_something_about_stays(delivery: Delivery) -> None:
    """Whatever is due, waits, stands by, is in doubt, or lies in the quarantine, in any of its channels."""
    assert not is_settled(record(1, delivery), LATER, ())


def test_what_a_silence_kept_back_stays_as_long_as_it_counts() -> None:
    """It can still be sent; but not what another channel delivered."""
    assert not is_settled(record(1, SILENCED), LATER, ("silence:1",))
    assert is_settled(record(1, SILENCED), LATER, ("silence:2",))
    assert is_settled(record(1, of("suppressed", suppressed_by="silence:1")), LATER, ("silence:1",))


@pytest.mark.parametrize("name", ["first_at", "last_at", "delivered_at"])
def test_the_youngest_time_of_its_delivery_decides(name: str) -> None:
    """What happened to it last makes it young."""
    assert not is_settled(record(1, of("spared", **{name: LATER})), LATER, ())


@pytest.mark.parametrize(
    "given_up",
    [
        lease_expired(record().delivery, LATER, RetryPolicy((5.0,), max_cuts=1)),
        wait_expired(
            replace(
                of("waiting"),
                state="waiting",
                delivered_at=None,
                channels=(ChannelDelivery("hook", "waiting", next_attempt_at=LATER),),
            ),
            "owner",
            LATER,
        ),
    ],
)
def test_what_was_given_up_long_after_its_last_attempt_is_as_old_as_that(given_up: Delivery) -> None:
    """Its processes were away, or it waited, for longer than records are kept: somebody is to see that it failed."""
    assert "failed" == given_up.state
    assert not is_settled(record(1, given_up), LATER, ())
    assert is_settled(record(1, given_up), LATER + SECOND, ())


def test_what_its_producer_calls_young_stays() -> None:
    """The server's clock may have been years behind when it came; and who wrote no time, wrote no alert of ours."""
    young = record(1, delivered(record()).delivery, occurred_at=(NOW + dt.timedelta(days=365)).isoformat())
    assert not is_settled(young, LATER, ())
    assert not is_settled(delivered(record()), NOW, ())
    assert not is_settled(Record("1-0", b"{}", delivered(record()).delivery), LATER, ())
