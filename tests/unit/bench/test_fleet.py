"""Queues in virtual time: what is planned with room to spare is quick, and what has none falls behind."""

from dataclasses import replace

from bench.fleet import Fleet, carry

FLEET = Fleet(processes=2, workers=400, nodes=1, shards=1, worker_s=200e-6, redis_s=10e-6, store_s=300e-6)
RECEIVER_S = 0.1


def test_a_fleet_that_is_half_busy_is_quick() -> None:
    """The delay is that of the steps, and the same in each half."""
    delays = carry(FLEET, 1_500, 3_000, RECEIVER_S)
    assert not delays.rising
    assert 0.002 < delays.p50_s < delays.p99_s < 0.05


def test_whatever_is_full_makes_alerts_later_and_later() -> None:
    """A shard, a node, the processes, the workers: each alone."""
    full = [
        replace(FLEET, store_s=1_000e-6),
        replace(FLEET, redis_s=1_000e-6),
        replace(FLEET, worker_s=2_000e-6),
        replace(FLEET, workers=100),
    ]
    assert all(carry(fleet, 1_500, 3_000, RECEIVER_S).rising for fleet in full)


def test_more_of_what_was_full_carries_it() -> None:
    """Shards share the documents, nodes the streams."""
    fleet = replace(FLEET, store_s=1_000e-6, redis_s=1_000e-6, shards=3, nodes=3)
    assert not carry(fleet, 1_500, 3_000, RECEIVER_S).rising
