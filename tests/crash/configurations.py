"""Cells in which the configuration changes while alerts wait: a channel is gone, and is there again."""

from collections import Counter

from tests.crash.cell import ALERTS, CHANNELS, KILLED, Cell, RunningCell
from tests.support.receiver import Script, Step
from trio_alerts.delivery import UNCONFIGURED

WITHOUT = """
[[channels]]
name = "steady"
url = "{url}/steady"

[[routes]]
channels = ["steady"]
"""
RENAMED = CHANNELS.replace('["hook"', '["desk"').replace('name = "hook"', 'name = "desk"\naliases = ["hook"]')
FEWEST = 10  # alerts that wait for each reason, or the cell proves little


def _removed(cell: RunningCell) -> None:
    """Some alerts wait for a retry, others in the channel's queue, when its name leaves the configuration.

    Processes that do not know it die while they set the retries aside. Then it is there again, under a new name.
    """
    url = cell.servers.receiver.url
    cell.begin()
    cell.emit(per_s=400)
    cell.until_emitted()
    cell.until(lambda: len(cell.records()) == ALERTS, "all have a record, which names the channel")
    _configure(cell, WITHOUT.format(url=url))
    cell.until(lambda: _queues(cell)[UNCONFIGURED] >= FEWEST // 2, "some are set aside")
    cell.kill_all()
    cell.until(lambda: _unsettled(cell) <= {"waiting"}, "everything waits")
    queues = _queues(cell)
    cell.notes += [f"{queues[UNCONFIGURED]} set aside", f"{queues['hook']} in the queue"]
    cell.servers.receiver.set_scripts({"/hook": Script([Step(200, delay_s=0.03)])})
    _configure(cell, RENAMED.format(hook=url, steady=url, policy="resend", limit="", fallback=""))
    cell.notes.append(f"{len(cell.crew.ends)} killed")


def _configure(cell: RunningCell, config: str) -> None:
    """Write another configuration, which the successors of all workers read."""
    (cell.folder / "channels.toml").write_text(config)
    cell.kill_all()


def _queues(cell: RunningCell) -> Counter[str]:
    return Counter(name for record in cell.records().values() for name in record.delivery.queues)


def _unsettled(cell: RunningCell) -> set[str]:
    """Return the states of channels that are not settled; what is still pending is being sent."""
    states = {channel.state for record in cell.records().values() for channel in record.delivery.channels}
    return states - {"delivered"} | ({"sending"} if cell.pending() else set())


def _had_both(cell: RunningCell) -> str:
    few = [note for note in cell.notes if int(note.split()[0]) < FEWEST and not note.endswith("killed")]
    return f"{' and '.join(few)}: this proves nothing" if few else ""


CELLS = (
    Cell(
        name="channel-removed",
        about="a channel leaves the configuration while its alerts wait; kill -9 to those that do not know it; it "
        "comes back under a new name",
        play=_removed,
        hook=Script([Step(503), Step(200)] * ALERTS),  # no breaker opens
        limit="rate_per_s = 10\nburst = 60",
        settings={"retry_schedule_s": "15,0.5,1,1,1,1,1,1"},  # their successors do not know it when the first is due
        ends=KILLED,
        check=_had_both,
    ),
)
