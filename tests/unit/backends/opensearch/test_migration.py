"""A migration on an OpenSearch in memory: while processes write, killed at every request, twice at once, aborted."""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import httpx
import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.opensearch import FakeIndex, FakeOpenSearch, Kept, answer, error
from trio_alerts.backends.opensearch import copying, transfer
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.documents import Document
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.migration import OpenSearchMigration
from trio_alerts.errors import AlertError, LedgerError, SchemaError, StartError
from trio_alerts.ports.migration import Migrated, Progress
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
OLD, NEW = "alerts-000001", "alerts-000002"
RECORDS = 8
PAGE = 4
ADDRESS = OpenSearchAddress(("http://store:9200",))


class Killed(BaseException):
    """This process does not exist any more."""


class Way(httpx.AsyncBaseTransport):
    """One process's way to the server; `dies_at` is the request at which it is killed, `late` after it was done."""

    def __init__(self, server: "Server", dies_at: int = 0, *, late: bool = False) -> None:
        self.server = server
        self.left = dies_at
        self.late = late
        self.dead = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.left -= 1
        if self.dead or (self.left == 0 and not self.late):
            self.dead = True
            raise Killed
        answered = await self.server.handle_async_request(request)
        if self.left == 0:
            self.dead = True
            raise Killed
        return answered


class Server(FakeOpenSearch):
    """An OpenSearch to which others write between any two requests.

    Attributes:
        ledger: What was written to the alias, and acknowledged, by ID.
        longest_wait: For how many requests in a row nobody could write.
        fault: Called with the kind and number of each request, it returns what is answered in its place.
        undone: Whether a request that is answered so is not done either.
    """

    def __init__(self, seed: int = 0, *, deletes: bool = True) -> None:
        super().__init__(WANTED, lagging=True)
        self.chance = Random(seed)
        self.deletes = deletes
        self.quiet = False
        self.to_come = 12  # writes by others
        self.ledger: dict[str, dict[str, object]] = {}
        self.waited = self.longest_wait = 0
        self.fault: Callable[[str], httpx.Response | None] = lambda _: None
        self.undone = False
        for number in range(RECORDS):
            self.write(f"{number}-0")
        self.index.searchable = dict(self.documents)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self.chance.uniform(0.0, 0.01))
        if not self.quiet:
            self.others()
        return await super().handle_async_request(request)

    def answer(self, kind: str, request: httpx.Request) -> httpx.Response:
        put = self.fault(kind)
        if put is not None and self.undone:
            return put
        answered = super().answer(kind, request)
        if self.indices:
            self.check()
        return put or answered

    def others(self) -> None:
        """Let processes write what they have to, if writes are let through."""
        if self.index.is_blocked:
            self.waited += 1
            self.longest_wait = max(self.longest_wait, self.waited)
            return
        self.waited = 0
        for _ in range(min(self.to_come, self.chance.choice((0, 0, 1, 2)))):
            self.to_come -= 1
            known = sorted(self.ledger)
            chosen = self.chance.random()
            if chosen < 0.4 or not known:
                self.write(f"{len(known) + self.index.writes}-0")
            elif chosen < 0.9 or not self.deletes:
                self.write(self.chance.choice(known))
            else:
                gone = self.chance.choice(known)
                del self.documents[gone], self.ledger[gone]
        if self.to_come and self.chance.random() < 0.05:  # the primary is lost, and another copy takes its place
            self.index.term += 1

    def write(self, record_id: str) -> None:
        index = self.index
        index.writes += 1
        source = {"record_id": record_id, "said": index.writes, "in": index.name, "once": "a\nb"}
        there = index.documents.get(record_id)
        index.documents[record_id] = Kept(source, index.writes, index.term, there.number + 1 if there else 1)
        self.ledger[record_id] = source

    def check(self) -> None:
        """See that the alias leads to all that was written, in its last version."""
        assert self.ledger == {record_id: kept.source for record_id, kept in self.documents.items()}

    def check_done(self) -> None:
        """See that the new index took over, takes writes, and that the old one takes none."""
        self.check()
        assert [NEW] == [one.name for one in self.named(WANTED.alias)]
        assert [WANTED.alias] == list(self.index.aliases)
        assert (False, True) == (self.index.is_blocked, self.indices[OLD].is_blocked)

    def check_fenced(self, old: FakeIndex) -> None:
        """See that no version that anybody read in the old index is one in the new index."""
        for record_id, kept in old.documents.items():
            assert record_id not in self.documents or self.documents[record_id].term > kept.term


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", PAGE)
    monkeypatch.setattr(transfer, "PAGE", PAGE)
    monkeypatch.setattr(transfer, "SAVED_EVERY_S", 0.01)


async def reach(_: str) -> None:
    await trio.lowlevel.checkpoint()


async def migrate(way: httpx.AsyncBaseTransport, report: Callable[[Progress], None] = lambda _: None) -> Migrated:
    async with open_opensearch(ADDRESS, http=way) as client:
        return await OpenSearchMigration(client, WANTED, 10, reach).run(report)


async def abort(way: httpx.AsyncBaseTransport) -> str:
    async with open_opensearch(ADDRESS, http=way) as client:
        return await OpenSearchMigration(client, WANTED, 10, reach).abort()


async def status(way: httpx.AsyncBaseTransport) -> Progress | None:
    async with open_opensearch(ADDRESS, http=way) as client:
        return await OpenSearchMigration(client, WANTED, 10, reach).status()


class Aborting(httpx.AsyncBaseTransport):
    """The way of a call, at one of whose requests another one aborts the migration: before it is done, or behind it.

    Attributes:
        removed: What the abort returned.
    """

    def __init__(self, server: Server, number: int, *, late: bool) -> None:
        self.server = server
        self.left = number
        self.late = late
        self.removed = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.left -= 1
        if self.left == 0 and not self.late:
            self.removed = await abort(Way(self.server))
        answer = await self.server.handle_async_request(request)
        if self.left == 0 and self.late:
            self.removed = await abort(Way(self.server))
        return answer


# --- all goes well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
async def test_everything_is_in_the_new_index(seed: int, autojump_clock: MockClock) -> None:
    """What was written before, while it was copied, and while the alias moved; what was deleted is in neither."""
    server = Server(seed)
    old = server.index
    told: list[Progress] = []

    done = await migrate(Way(server), told.append)

    assert (OLD, NEW, len(old.documents)) == (done.source, done.target, done.records)
    server.check_done()
    server.check_fenced(old)
    assert ["create", "copy", "hand_over"] == list(dict.fromkeys(one.step for one in told))[:3]
    assert all(one.copied <= one.records for one in told)


async def test_what_comes_at_the_last_moment_is_there(autojump_clock: MockClock) -> None:
    """Right before writes are blocked one record is changed, one is new, and one is deleted."""
    server = Server(3)

    def at_last(kind: str) -> None:
        if kind == "block":
            server.write("1-0")
            server.write("99-0")
            del server.documents["2-0"], server.ledger["2-0"]

    server.fault = at_last
    await migrate(Way(server))
    server.check_done()


async def test_an_empty_index_is_migrated_too(autojump_clock: MockClock) -> None:
    """There is nothing to copy, and nothing is missing."""
    server = Server()
    server.quiet = True
    server.documents.clear()
    server.index.searchable.clear()
    server.ledger.clear()

    assert 0 == (await migrate(Way(server))).records
    server.check_done()


async def test_what_is_not_ours_to_know_goes_along(autojump_clock: MockClock) -> None:
    """The deployment, notes of others, and the operator's settings; the mapping is this version's."""
    server = Server()
    server.index.body["mappings"]["_meta"] |= {"deployment": "d-1", "note": "by a human", "streams": ["AlertStream"]}
    server.index.body["settings"] |= {"index.number_of_replicas": "2", "index.refresh_interval": "3s"}
    server.forget_field("links")

    await migrate(Way(server))

    body = server.index.body
    assert ("d-1", "by a human") == (body["mappings"]["_meta"]["deployment"], body["mappings"]["_meta"]["note"])
    assert ("2", "3s") == (body["settings"]["index.number_of_replicas"], body["settings"]["index.refresh_interval"])
    assert "links" in body["mappings"]["properties"]
    assert "u1" in body["mappings"]["_meta"]["migration"]["ancestors"]


async def test_a_second_migration_follows_the_first(autojump_clock: MockClock) -> None:
    """A process that slept through both still finds its index among the ancestors."""
    server = Server()
    await migrate(Way(server))
    done = await migrate(Way(server))

    assert (NEW, "alerts-000003") == (done.source, done.target)
    server.check()
    notes = server.index.body["mappings"]["_meta"]["migration"]
    assert (["u1", "u2"], True) == (notes["ancestors"], notes["whole"])


async def test_an_index_of_that_name_is_left_alone(autojump_clock: MockClock) -> None:
    """Whatever it is: the next free name is taken."""
    server = Server()
    server._create(NEW, {"aliases": {}, "mappings": {}, "settings": {}})

    assert "alerts-000003" == (await migrate(Way(server))).target
    assert {} == server.indices[NEW].documents


# --- killed ----------------------------------------------------------------------------------------------------------


async def requests_of_one(*, quiet: bool = False) -> int:
    server = Server(3)
    server.quiet = quiet
    await migrate(Way(server))
    return len(server.asked)


@pytest.mark.parametrize("late", [False, True])
async def test_killed_at_any_request_it_is_resumed(late: bool, autojump_clock: MockClock) -> None:
    """Before it was done, or after, with nobody told: the next call ends what was begun, and nothing is lost."""
    for number in range(1, await requests_of_one() + 1):
        server = Server(3)
        old = server.index
        with pytest.raises(Killed):
            await migrate(Way(server, number, late=late))
        if server.index is not old:
            server.check_done()
            continue
        await migrate(Way(server))
        server.check_done()
        server.check_fenced(old)


@pytest.mark.parametrize("late", [False, True])
async def test_killed_at_any_request_it_is_aborted(late: bool, autojump_clock: MockClock) -> None:
    """The old index takes writes again, and of the new one nothing is left."""
    for number in range(1, await requests_of_one() + 1):
        server = Server(3)
        old = server.index
        with pytest.raises(Killed):
            await migrate(Way(server, number, late=late))
        if server.index is not old:
            assert "" == await abort(Way(server))
            server.check_done()
            continue
        await abort(Way(server))
        assert ([OLD], False) == (list(server.indices), old.is_blocked)
        assert "to" not in old.body["mappings"]["_meta"].get("migration", {})
        server.check()


async def test_an_abort_that_was_killed_is_called_again(autojump_clock: MockClock) -> None:
    """At any request, too; or the migration goes on."""
    for number in range(1, 12):
        server = Server(3)
        with pytest.raises(Killed):
            await migrate(Way(server, 25))
        way = Way(server, number, late=True)
        try:
            await abort(way)
        except Killed:
            await abort(Way(server))
        assert ([OLD], False) == (list(server.indices), server.index.is_blocked)
        await migrate(Way(server))
        server.check_done()


@pytest.mark.parametrize("late", [False, True])
async def test_an_abort_at_any_request_of_a_call_ends_it(late: bool, autojump_clock: MockClock) -> None:
    """With exit code 4, and nothing of the new index is left; or there was nothing to abort yet, or any more."""
    for number in range(1, await requests_of_one() + 1):
        server = Server(3)
        way = Aborting(server, number, late=late)
        ended = await end_of(way)
        check_aborted(server, way.removed, ended)


@pytest.mark.parametrize("seed", range(60))
async def test_an_abort_at_any_time_of_a_call_ends_it(seed: int, autojump_clock: MockClock) -> None:
    """Also in the midst of the abort's own requests, and a call that goes on where another one died."""
    server, chance = Server(seed), Random(seed)
    with suppress(Killed):
        await migrate(Way(server, chance.choice((1, 2, 4, 6, 9, 20))))
    removed = ended = ""

    async def call() -> None:
        nonlocal ended
        ended = await end_of(Way(server))

    async with trio.open_nursery() as calls:
        calls.start_soon(call)
        await trio.sleep(chance.uniform(0.0, 0.2))
        with suppress(StartError):  # it had taken over
            removed = await abort(Way(server))
    check_aborted(server, removed, ended)


async def end_of(way: httpx.AsyncBaseTransport) -> str:
    """Migrate, and return why it ended; empty: it is done."""
    try:
        await migrate(way)
    except StartError as fault:
        return str(fault)
    return ""


def check_aborted(server: Server, removed: str, ended: str) -> None:
    """See that a call that was aborted says so, and that nothing is left; or that it is done."""
    if not removed:
        assert "" == ended
        server.check_done()
        return
    assert "by `migrate --abort`" in ended
    assert ([OLD], False) == (list(server.indices), server.index.is_blocked)
    assert "to" not in server.index.body["mappings"]["_meta"].get("migration", {})
    server.check()


async def test_stopped_it_lets_writes_through(autojump_clock: MockClock) -> None:
    """A cancellation, wherever it comes, leaves no block behind."""
    for number in range(1, await requests_of_one() + 1):
        server = Server(3)
        with trio.CancelScope() as scope:

            def stop(_: str, left: list[int] = [number], scope: trio.CancelScope = scope) -> None:  # noqa: B006
                left[0] -= 1
                if left[0] == 0:
                    scope.cancel()

            server.fault = stop
            await migrate(Way(server))
        assert not server.index.is_blocked
        server.fault = lambda _: None
        if server.index.name == OLD:
            await migrate(Way(server))
        server.check_done()


# --- at once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
async def test_several_at_once_do_no_harm(seed: int, autojump_clock: MockClock) -> None:
    """Two calls, one of which may be killed, and now and then an abort: one index has everything, and takes writes."""
    server = Server(seed)
    chance = Random(seed)
    old = server.index

    async def one(way: Way) -> None:
        await trio.sleep(chance.uniform(0.0, 0.3))
        with suppress(StartError, Killed):
            await migrate(way)

    async def other() -> None:
        await trio.sleep(chance.uniform(0.0, 0.6))
        with suppress(AlertError):
            await abort(Way(server))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, Way(server))
        nursery.start_soon(one, Way(server, chance.choice((0, chance.randint(1, 60)))))
        if seed % 3 == 0:
            nursery.start_soon(other)

    server.check()
    if server.index is old:
        await migrate(Way(server))
    server.check()
    assert not server.index.is_blocked
    server.check_fenced(old)


# --- what may be answered --------------------------------------------------------------------------------------------


ODD = (
    error(429, "rejected_execution_exception"),
    error(503, "cluster_block_exception"),
    httpx.Response(200, content=b"<html>Sign in</html>", headers={"content-type": "text/html"}),
    answer({"acknowledged": False, "shards_acknowledged": False, "items": []}),
    answer({"timed_out": False, "_shards": {"total": 2, "successful": 1, "failed": 1}}),
    answer({}),
    error(504, "timeout_exception"),
)


@pytest.mark.parametrize("undone", [True, False])
async def test_one_odd_answer_changes_nothing(undone: bool, autojump_clock: MockClock) -> None:
    """In any step, whether what was asked was done or not: it is asked again."""
    for number in range(2, await requests_of_one() + 1):
        server = Server(3)
        old = server.index
        left, odd = [number], ODD[number % len(ODD)]

        def at_that_request(_: str, left: list[int] = left, odd: httpx.Response = odd) -> httpx.Response | None:
            left[0] -= 1
            return odd if left[0] == 0 else None

        server.fault, server.undone = at_that_request, undone
        await migrate(Way(server))
        server.check_done()
        server.check_fenced(old)


async def test_single_copies_that_are_rejected_are_written_again(autojump_clock: MockClock) -> None:
    """A `_bulk` answers for each item by itself."""
    server = Server(3)
    rejected: list[str] = []

    def write(
        index: FakeIndex, action: str, condition: dict[str, object], source: dict[str, object]
    ) -> dict[str, object]:
        if len(rejected) < 5 and server.chance.random() < 0.5:
            rejected.append(str(condition["_id"]))
            return {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "busy"}}
        return Server._write(server, index, action, condition, source)

    server._write = write  # type: ignore[method-assign]
    await migrate(Way(server))

    assert 5 == len(rejected)
    server.check_done()


async def test_a_refused_record_is_named_and_nothing_changes(autojump_clock: MockClock) -> None:
    """Exit code 3; writes are let through, and the migration can be aborted."""
    server = Server(3)

    def write(*_: object) -> dict[str, object]:
        return {
            "status": 400,
            "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field [value_usd]"},
        }

    server._write = write  # type: ignore[method-assign, assignment]
    with pytest.raises(SchemaError, match=r"refuses record '0-0': mapper_parsing_exception: failed to parse field"):
        await migrate(Way(server))

    assert (OLD, False) == (server.index.name, server.index.is_blocked)
    assert NEW == await abort(Way(server))


async def test_a_copy_that_vanished_stops_the_hand_over(autojump_clock: MockClock) -> None:
    """Exit code 5: the new index holds less than the old one, which goes on as before."""
    server = Server(3, deletes=False)
    way = Way(server)

    def lose(kind: str) -> None:
        if kind == "block":
            server.indices[NEW].documents.pop("3-0")

    server.fault = lose
    with pytest.raises(LedgerError, match=r"alerts-000002 holds \d+ of \d+ records: nothing was handed over"):
        await migrate(way)

    assert (OLD, False) == (server.index.name, server.index.is_blocked)


async def test_a_copy_that_is_another_document_stops_it(autojump_clock: MockClock) -> None:
    """Each page is read back and compared."""
    server = Server(3)

    def spoil(kind: str) -> None:
        if kind == "refresh" and NEW in server.indices:
            for kept in server.indices[NEW].documents.values():
                kept.source = {**kept.source, "said": -1}

    server.fault = spoil
    with pytest.raises(LedgerError, match="is another document"):
        await migrate(Way(server))
    assert (OLD, False) == (server.index.name, server.index.is_blocked)


async def test_writes_never_wait_for_long(autojump_clock: MockClock) -> None:
    """A hand-over that takes too long is undone, and tried again a few times; then the migration gives up."""
    server = Server(3)
    blocked_since_s: list[float] = []
    waits_s: list[float] = []

    def watch(kind: str) -> None:
        if kind == "block":
            blocked_since_s.append(trio.current_time())
        if kind == "settings":
            waits_s.append(trio.current_time() - blocked_since_s[-1])

    server.fault, server.delay_s = watch, 0.9
    with pytest.raises(StartError, match="could not take over: each time it would have taken longer than 4 s"):
        await migrate(Way(server))

    assert (OLD, False) == (server.index.name, server.index.is_blocked)
    assert transfer.HAND_OVERS == len(waits_s)
    assert max(waits_s) < transfer.LONGEST_BLOCK_S + 3 * 0.9
    server.delay_s = 0.0
    await migrate(Way(server))
    server.check_done()


async def test_a_server_that_is_away_is_not_waited_for_forever(autojump_clock: MockClock) -> None:
    """After a minute the call ends with exit code 4, and what it did can be gone on with."""
    server = Server(3)
    server.fault, server.undone = lambda kind: error(503) if kind == "bulk" else None, True
    with pytest.raises(StartError, match="503"):
        await migrate(Way(server))
    assert 60 <= trio.current_time() < 90

    server.fault = lambda _: None
    await migrate(Way(server))
    server.check_done()


async def test_who_may_not_refresh_may_not_migrate(autojump_clock: MockClock) -> None:
    """The last changes might not be seen, and be missed on both sides: exit code 4, and nothing is handed over."""
    server = Server(3)
    server.fault, server.undone = lambda kind: error(403, "security_exception") if kind == "refresh" else None, True

    with pytest.raises(StartError, match=r"forbids POST /alerts-000001/_refresh \(403\)"):
        await migrate(Way(server))
    assert (OLD, False) == (server.index.name, server.index.is_blocked)


# --- what is not done ------------------------------------------------------------------------------------------------


async def test_it_needs_an_index_of_ours(autojump_clock: MockClock) -> None:
    """None, one of another group, or one that never was ours: exit code 3, and nothing is changed."""
    server = Server()
    meta = server.index.body["mappings"]["_meta"]
    server.index.body["mappings"]["_meta"] = {**meta, "group": "others"}
    for call in (migrate, abort, status):
        with pytest.raises(SchemaError, match="group is others, must be alert-processor"):
            await call(Way(server))
    server.index.body["mappings"]["_meta"] = {}
    with pytest.raises(SchemaError, match="_meta: owner is null, must be trio_alerts"):
        await migrate(Way(server))
    server.indices.clear()
    server.quiet = True
    with pytest.raises(SchemaError, match="There is no index behind alias alerts"):
        await migrate(Way(server))
    assert {} == server.indices


async def test_a_block_by_somebody_else_is_left_alone(autojump_clock: MockClock) -> None:
    """It was not set by a migration, so no migration lifts it."""
    server = Server()
    server.quiet = True
    server.index.body["settings"]["index.blocks.write"] = "true"
    with pytest.raises(StartError, match="Somebody has blocked writes to alerts-000001"):
        await migrate(Way(server))
    assert "" == await abort(Way(server))
    assert server.index.is_blocked


async def test_a_template_that_spoils_the_new_index_is_found(autojump_clock: MockClock) -> None:
    """Before anything is copied to it."""
    server = Server()

    def spoil(kind: str) -> None:
        if NEW in server.indices:
            server.indices[NEW].body["mappings"]["properties"]["view"] = {"type": "text"}

    server.fault = spoil
    with pytest.raises(SchemaError, match="The new index alerts-000002 is not right:\n  view: type is text"):
        await migrate(Way(server))
    assert {} == server.indices[NEW].documents


async def test_the_status_says_how_far_it_is(autojump_clock: MockClock) -> None:
    """Before, in the middle, with writes that wait, and after."""
    server = Server(3)
    server.quiet = True
    assert None is await status(Way(server))
    seen: list[Progress | None] = []
    for number in range(1, 1 + await requests_of_one(quiet=True)):
        server = Server(3)
        server.quiet = True
        with pytest.raises(Killed):
            await migrate(Way(server, number, late=True))
        seen.append(await status(Way(server)))
    steps = [one.step if one else None for one in seen]

    assert [None, "create", "copy", "hand_over", "done"] == list(dict.fromkeys(steps))
    assert all(one.blocked == (one.step == "hand_over") for one in seen if one)
    assert Progress("done", OLD, NEW, RECORDS, RECORDS) == seen[-1]


def test_a_newline_in_a_document_ends_no_line() -> None:
    """An operator may have written one by hand: its copy is one line, and no digit is lost."""
    raw = b'{"a": 1.10,\n "b": "x\\ny"}'
    one = Document(id="1", index=OLD, seq_no=0, primary_term=1, raw=msgspec.Raw(raw))
    assert b'{"a":1.10,"b":"x\\ny"}' == copying.one_line_of(one)
