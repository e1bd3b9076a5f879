from random import Random

import pytest

from bench.delays import CAP, Delay, parse_delay
from bench.figures import excess, ideal_rate, overtaken, per_worker_kib, percentile, steady_rate
from bench.load import schedule
from bench.plot import bars, shown
from bench.receiver import _header
from bench.remembering_store import packed_id, unpacked_id


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 1.0), (0.01, 1.0), (0.07, 7.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (1.0, 100.0)],
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """Of 1 to 100, the percentile is the number itself; no value is invented between two measured ones."""
    assert expected == percentile([float(value) for value in range(1, 101)], share)


def test_the_percentile_of_one_value_is_that_value() -> None:
    """A single sample is its own median and its own worst case."""
    assert [3.5, 3.5] == [percentile([3.5], share) for share in (0.5, 0.99)]


def rounds(workers: int, count: int, period_s: float, width_s: float) -> list[float]:
    """Give the arrivals of workers that wait equally long: they come in rounds, each spread over `width_s`."""
    return [number * period_s + worker / workers * width_s for number in range(count) for worker in range(workers)]


@pytest.mark.parametrize("width_s", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("count", [3, 10, 40])
def test_a_steady_rate_is_exact_however_the_rounds_are_spread(count: int, width_s: float) -> None:
    """512 workers that wait 100 ms are 5,120 a second, never more: the ends of a run do not flatter it."""
    assert 5_120 == pytest.approx(steady_rate(rounds(512, count, 0.1, width_s), 512))


def test_ramp_and_drain_do_not_count() -> None:
    """A slow first round and a late last one change nothing: the rate is that of the rounds between."""
    arrivals_s = rounds(10, 8, 1.0, 0.5)
    arrivals_s[:10] = [-60.0 + number for number in range(10)]
    arrivals_s[-9:] = [100.0 + number for number in range(9)]
    assert 10.0 == pytest.approx(steady_rate(arrivals_s, 10))


def test_too_few_rounds_are_no_steady_rate() -> None:
    """What is all ramp and drain gets no figure at all."""
    with pytest.raises(ValueError, match="fewer than three rounds of 10 workers"):
        steady_rate([float(number) for number in range(29)], 10)


@pytest.mark.parametrize(("offered", "expected"), [(None, 160.0), (50.0, 50.0), (1_000.0, 160.0)])
def test_the_ideal_is_the_smaller_of_capacity_and_offer(offered: float | None, expected: float) -> None:
    """16 workers that wait 100 ms carry 160 a second, and no more than is offered."""
    assert expected == pytest.approx(ideal_rate(16, 0.1, offered))


def test_memory_of_a_worker_is_the_difference() -> None:
    """What a process has before its first worker is not charged to its workers."""
    assert 10.0 == per_worker_kib((2_000, 60 * 1024**2), (10_000, 60 * 1024**2 + 8_000 * 10 * 1024))


def test_delays_have_the_mean_that_they_name() -> None:
    """Every distribution keeps its mean within 5 % (the cap takes 3 % from the heavy tail), and none passes the cap."""
    for kind in ("fixed", "exponential", "heavy"):
        delay = parse_delay(f"{kind}:0.2")
        random = Random(7)
        drawn_s = [delay.draw(random) for _ in range(50_000)]
        assert 0.2 == pytest.approx(sum(drawn_s) / len(drawn_s), rel=0.05), kind
        assert max(drawn_s) <= delay.longest_s <= CAP * 0.2


@pytest.mark.parametrize("text", ["fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:nan", "normal:1", ""])
def test_a_delay_that_makes_no_sense_is_refused(text: str) -> None:
    """A typo in a distribution ends the bench before anything runs."""
    with pytest.raises(ValueError, match=r"."):
        parse_delay(text)
    assert Delay("heavy", 0.5) == parse_delay("heavy:0.5")


def test_a_schedule_is_the_same_in_every_run() -> None:
    """Independent arrivals at the named rate, ascending, and repeatable."""
    times_s = schedule(50.0, 20_000)
    assert times_s == schedule(50.0, 20_000)
    assert times_s == sorted(times_s)
    assert 50.0 == pytest.approx(len(times_s) / times_s[-1], rel=0.03)


@pytest.mark.parametrize("entry_id", ["1763900000000-0", "1763900000000-1048575", "0-1"])
def test_an_id_survives_its_packing(entry_id: str) -> None:
    """The store of a run without a store forgets no digit of an ID."""
    assert entry_id == unpacked_id(packed_id(entry_id))
    assert packed_id(entry_id) < 2**64


def test_a_header_is_found_by_its_whole_name() -> None:
    """The receiver reads the value behind a name, not behind a name that ends alike."""
    head = b"post / http/1.1\r\nx-webhook-id: wrong\r\nwebhook-id:  1-0 \r\nlast: z"
    assert [b"1-0", b"z", b""] == [_header(head, name) for name in (b"webhook-id", b"last", b"id")]


def test_a_plot_shows_every_value_and_escapes_its_words() -> None:
    """Labels and values are in the picture; a label cannot become markup."""
    svg = bars("Rates", "a <second>", {"a & b": {"ours": 1234.4, "theirs": 0.5}})
    assert all(text in svg for text in ("a &amp; b", "a &lt;second&gt;", "1,234", "0.5", "ours", "theirs"))
    assert ["1,234", "99.9", "0.5"] == [shown(value) for value in (1234.4, 99.94, 0.5)]


@pytest.mark.parametrize(
    ("arrivals_s", "expected"),
    [([5.0], 1.0), ([0.0, 0.0, 0.0, 1.0, 2.0], 3.0), ([0.0, 1.0, 2.0, 10.0, 10.5], 1.5), ([0.0, 3.0, 3.0, 3.5], 2.5)],
)
def test_the_excess_is_that_of_the_most_crowded_stretch(arrivals_s: list[float], expected: float) -> None:
    """At 1/s: whoever sends its burst and then keeps to the rate exceeds it by the burst, wherever that is."""
    assert expected == pytest.approx(excess(arrivals_s, 1.0))


def test_others_overtake_what_waits() -> None:
    """Something urgent that was due at 10 and came at 20: from 11 to 20 nothing else should have come."""
    others_s = [9.0, 10.5, 11.0, 11.5, 19.0, 20.0, 21.0]
    assert 2 == overtaken([(10.0, 20.0), (50.0, 50.1)], others_s, 1.0)
