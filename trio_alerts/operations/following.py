"""Following records as they come: what is new, and whose state has changed, from look to look."""

from trio_alerts.delivery import State
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.record import Record
from trio_alerts.record_ids import entry_order

WATCHED = 500  # the newest records that match, of which every change of state is seen: one search, of 2 MB at most


class Follower:
    """Looks at the newest records that match a filter, again and again; `begin` comes before the first `look`.

    Each of them is one search, and raises `Unavailable` if the store does not answer: nothing is lost, the next look
    shows it. A record that comes so late that `WATCHED` newer ones are there already is not seen.
    """

    def __init__(self, store: AlertStore, wanted: RecordFilter) -> None:
        self._store = store
        self._wanted = wanted
        self._states: dict[tuple[str, str], State] = {}  # of what is watched, by its place
        self._floor = ("", "")  # the place below which nothing is watched
        self._behind: Record | None = None

    async def begin(self, count: int) -> list[Record]:
        """Return the newest records, `count` at most, the oldest entry first."""
        page = await self._store.search(self._wanted, WATCHED)
        self._watch(page)
        return page[:count][::-1]

    async def look(self) -> list[Record]:
        """Return what is new since the last look or in another state, the oldest entry first."""
        page = await self._store.search(self._wanted, WATCHED, self._behind)
        news = [one for one in page if _place(one) >= self._floor and self._states.get(_place(one)) != _state(one)]
        if len(news) == WATCHED:  # there may be more behind them, and the next look begins there
            self._states |= {_place(one): _state(one) for one in news}
            self._behind = page[-1]
        elif self._behind is not None:
            self._states |= {_place(one): _state(one) for one in news}
            self._behind = None
        else:
            self._watch(page)
        return news[::-1]

    def _watch(self, newest: list[Record]) -> None:
        """Watch these, and forget what is older, if there are enough of them."""
        if len(newest) == WATCHED:
            self._floor = max(self._floor, _place(newest[-1]))
        self._states |= {_place(one): _state(one) for one in newest}
        self._states = {place: state for place, state in self._states.items() if place >= self._floor}


def _place(record: Record) -> tuple[str, str]:
    return entry_order(record.id), record.id


def _state(record: Record) -> State:
    return record.delivery.state
