"""What the demo shows, in a terminal of 80 by 24 and without one."""

import dataclasses
import io

from rich.console import Console

from tests.unit.demo.test_ledger import balanced
from trio_alerts.demo.ledger import EntryCounts, ReceiverBook, findings
from trio_alerts.demo.screen import Screen, open_screen, plain_line
from trio_alerts.demo.tables import Summary, View, live_view, summary_view

BOOKS = [ReceiverBook(name, "often 503, at times 422", 99_999, 9_999, {"1-0": 9_999}) for name in "abcdefg"]
VIEW = View(
    elapsed_s=3.14,
    total=605,
    counts=EntryCounts(
        emitted=605,
        by_state={"delivered": 412, "retrying": 21, "waiting": 9, "failed": 3, "sending": 16},
        dead=5,
        queues={"c": 9},
    ),
    rate_per_s=157.4,
    books=BOOKS,
    workers=[
        ("worker-1", 4_194_301, "killed with SIGKILL at 14.1 s, 8 alerts in its hands"),
        ("worker-2", 4_194_302, "running"),
        ("worker-3", 4_194_303, "running, in the place of worker-1"),
    ],
)
EVENT = "worker-1: SIGKILL at 14.1 s with 8 alerts in its hands; worker-3 took its place"


def terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"}), written


def no_terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=False, width=200), written


def told(**changes: object) -> Summary:
    evidence = balanced()
    plain = Summary(9.04, evidence, findings(evidence), 157.4, [EVENT])
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def lines_of(console: Console, written: io.StringIO, shown: object) -> list[str]:
    console.print(shown)
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_the_live_view_fits_a_terminal() -> None:
    """Every figure is whole and every line is there, in 80 columns and 23 lines (the cursor has one)."""
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(live_view(VIEW))
    lines = captured.get().splitlines()

    assert 23 >= len(lines)
    assert not any("…" in line for line in lines)
    for part in ("3.1 s", "605", "412", "157 alerts/s", "99,999", "9,999", "killed with SIGKILL at 14.1 s, 8 alerts"):
        assert any(part in line for line in lines), part


def test_a_view_is_one_line_without_a_terminal() -> None:
    """It has the same figures, and fits 80 columns for less than a thousand alerts."""
    line = plain_line(VIEW)

    assert (
        "  3.1 s  emitted 605 stored 461 delivered 412 retrying 21 waiting 9 failed 3 quarantined 5 rate 157/s" == line
    )
    assert "rate" not in plain_line(dataclasses.replace(VIEW, rate_per_s=None))


def test_without_a_terminal_there_is_a_line_a_second() -> None:
    """Views may come as often as they like; events are told at once."""
    console, written = no_terminal()
    with open_screen(console) as screen:
        for tenth in range(25):
            screen.show(dataclasses.replace(VIEW, elapsed_s=tenth / 10))
        screen.report(2.5, "worker-1 [killed]")

    lines = written.getvalue().splitlines()
    assert ["  0.0 s", "  1.0 s", "  2.0 s", "  2.5 s"] == [line[:7] for line in lines]
    assert "  2.5 s  worker-1 [killed]" == lines[-1]
    assert "\x1b" not in written.getvalue()


def test_a_terminal_gets_its_cursor_back() -> None:
    """The live view hides the cursor while it is there, and leaves nothing of itself."""
    console, written = terminal()
    with open_screen(console) as screen:
        assert isinstance(screen, Screen)
        screen.show(VIEW)
        screen.report(1.0, "in the view, not below it")

    assert "\x1b[?25l" in written.getvalue()
    assert written.getvalue().rindex("\x1b[?25h") > written.getvalue().rindex("\x1b[?25l")
    assert "not below it" not in written.getvalue()


def test_the_end_shows_where_every_entry_is() -> None:
    """One line a state, the sum, each receiver with its marked repeats, the rate, and one sentence of verdict."""
    lines = lines_of(*no_terminal(), summary_view(told()))

    assert "delivered         1  accepted by all that their routes name, or by the fallback" in lines
    assert "quarantined       1  bad_json 1" in lines
    assert "together          3  = 3 emitted" in lines
    assert "steady rate: 157 alerts/s (16 workers, 100 ms an alert: 160/s at best)" in lines
    assert EVENT in lines
    assert "The ledger balances: 3 emitted, 3 accounted for, none lost; the 1 repeat is marked in doubt." in lines
    assert "quick            2         1        0        1                1        0" in lines


def test_the_end_fits_a_terminal() -> None:
    """It is no longer than a screen, and no line of it is broken but the verdict's."""
    assert 23 >= len(lines_of(*terminal(), summary_view(told())))


def test_an_unbalanced_ledger_says_what_is_wrong() -> None:
    """No word of balance then, and every finding on a line of its own."""
    lines = lines_of(*no_terminal(), summary_view(told(faults=["one thing", "another"], rate_per_s=None)))

    assert ["The ledger does NOT balance:", "- one thing", "- another"] == lines[-4:-1]
    assert not any("balances" in line for line in lines)
    assert any("too few alerts to tell" in line for line in lines)
