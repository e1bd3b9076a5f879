"""What every store must do, whatever it is made of: one suite that runs on all of them.

A test module makes a class of it and says how to get a store:

    class TestTheContract(StoreContract):
        @pytest.fixture
        async def tested(self) -> AsyncIterator[TestedStore]:
            async with open_my_store(a_fresh_place) as store:
                await store.prepare()
                yield TestedStore(store, refresh, document, vanish)

The order of IDs is asked for only among IDs of one length and one stream, as they come from one server.
"""

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, ParamSpec, TypeVar

import msgspec
import pytest
import trio
from msgspec.structs import replace

from tests.support.at_once import results_of
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import Attempt, ChannelDelivery, ChannelState, Delivery, State
from trio_alerts.errors import NewerRecord
from trio_alerts.exact_json import encode
from trio_alerts.outcome import Accepted
from trio_alerts.pages import Pages
from trio_alerts.ports.hints import Queued
from trio_alerts.ports.store import AlertStore, Conflict, Counts, Due, RecordFilter, Stored, Vitals
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt, quarantined, settled

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
PATIENCE_S = 60


P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TestedStore:
    """A prepared, empty store of the test's own.

    Args:
        store: It.
        refresh: Makes searches see everything that is written now.
        document: Reads the JSON of a record as it lies in the store, behind the port's back.
        vanish: Removes a record, behind the port's back.
    """

    __test__ = False

    store: AlertStore
    refresh: Callable[[], Awaitable[None]]
    document: Callable[[str], Awaitable[bytes]]
    vanish: Callable[[str], Awaitable[None]]


def as_async(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Make a hook of a plain function."""

    async def hook(*args: P.args, **kwargs: P.kwargs) -> T:
        await trio.lowlevel.checkpoint()
        return function(*args, **kwargs)

    return hook


def record(number: int = 1, delivery: Delivery | None = None, record_id: str = "", **fields: Any) -> Record:
    """Return the record of a small alert; without a delivery it is being sent."""
    event = {
        "alert_id": f"alert-{number}",
        "rule_id": "rule",
        "view": "view",
        "scope": "scope",
        "severity": "low",
        "title": "title",
        "occurred_at": NOW.isoformat(),
        **fields,
    }
    record_id = record_id or f"1767225600000-{number:04d}"
    entry = Entry("AlertStream", record_id, {b"event": encode(event)}, record_id)
    return Record(record_id, parse_entry(entry, NOW).body, delivery or first_attempt(["hook"], "owner", NOW, 60))


def delivered(before: Record) -> Record:
    """Return the record after its one channel accepted it."""
    return Record(
        before.id, before.body, settled(before.delivery, {"hook": (Accepted(200, "ok"), 0.25)}, NOW, RetryPolicy((5,)))
    )


def retrying(next_attempt_at: dt.datetime) -> Delivery:
    hook = ChannelDelivery("hook", "retrying", next_attempt_at=next_attempt_at)
    return Delivery(state="retrying", attempts=1, next_attempt_at=next_attempt_at, channels=(hook,))


def sending(lease_until: dt.datetime) -> Delivery:
    hook = ChannelDelivery("hook", "sending")
    return Delivery(state="sending", owner="owner", attempts=1, lease_until=lease_until, channels=(hook,))


def newer_records() -> dict[str, Record]:
    """Return records of a newer version, by what this one does not know in them."""
    plain, waits = record(2, retrying(NOW)), retrying(NOW)
    (hook,) = waits.channels
    return {
        "delivery.state 'paused'": Record(plain.id, plain.body, replace(waits, state="paused")),
        "delivery.channels.state 'paused'": Record(
            plain.id, plain.body, replace(waits, channels=(replace(hook, state="paused"),))
        ),
        "runbook": Record(plain.id, b'%b,"runbook":"page 7"}' % plain.body[:-1], waits),
    }


NEWER = newer_records()


class StoreContract:
    """The suite; `tested` comes from the subclass."""

    async def test_a_created_record_can_be_read_at_once(self, tested: TestedStore) -> None:
        """What was created is read by its ID without a refresh, with the version that `create` returned."""
        created = await tested.store.create(record())

        assert isinstance(created, Stored)
        _assert_same(record(), created.record)
        read = await tested.store.get(record().id)
        assert read is not None
        _assert_same(record(), read.record)
        assert created.version == read.version

    async def test_what_was_never_stored_is_none(self, tested: TestedStore) -> None:
        """An unknown ID is no error."""
        assert await tested.store.get("1767225600000-9999") is None

    async def test_the_second_create_is_a_conflict(self, tested: TestedStore) -> None:
        """A record is created once; the second create changes nothing."""
        first = await _stored(tested.store.create(record(title="first")))

        assert Conflict() == await tested.store.create(record(title="second"))
        read = await tested.store.get(record().id)
        assert read is not None
        assert "first" == read.record.fields()["title"]
        assert first.version == read.version

    async def test_a_replace_needs_the_version_that_is_there(self, tested: TestedStore) -> None:
        """A replace moves the version on; another with the old version is a conflict and changes nothing."""
        first = await _stored(tested.store.create(record()))
        second = await _stored(tested.store.replace(delivered(record()), first.version))

        assert first.version != second.version
        assert Conflict() == await tested.store.replace(record(), first.version)
        read = await tested.store.get(record().id)
        assert read is not None
        assert "delivered" == read.record.delivery.state
        assert second.version == read.version
        await _stored(tested.store.replace(record(), second.version))

    async def test_an_identical_replace_moves_the_version_on(self, tested: TestedStore) -> None:
        """Writing the same content again is a write: of two claimants with the same content, one still loses."""
        first = await _stored(tested.store.create(record()))
        second = await _stored(tested.store.replace(record(), first.version))

        assert first.version != second.version
        assert Conflict() == await tested.store.replace(record(), first.version)

    async def test_a_replace_writes_the_whole_record(self, tested: TestedStore) -> None:
        """The new content takes the place of the old one, for reads and for filters: nothing is merged."""
        first = await _stored(tested.store.create(record(view="old", labels={"a": "1"}, description="gone")))
        await _stored(tested.store.replace(record(view="new", labels={"b": "2"}), first.version))

        read = await tested.store.get(record().id)
        assert read is not None
        _assert_same(record(view="new", labels={"b": "2"}), read.record)
        assert [] == await _found(tested, RecordFilter(view=["old"]))
        assert [1] == await _found(tested, RecordFilter(view=["new"]))

    async def test_a_record_that_vanished_cannot_be_replaced(self, tested: TestedStore) -> None:
        """A replace never creates, neither what has been there nor what has not."""
        first = await _stored(tested.store.create(record()))
        await tested.vanish(record().id)

        assert Conflict() == await tested.store.replace(record(), first.version)
        assert Conflict() == await tested.store.replace(record(2), first.version)
        assert await tested.store.get(record().id) is None
        assert await tested.store.get(record(2).id) is None

    async def test_a_version_from_before_a_vanishing_fits_no_more(self, tested: TestedStore) -> None:
        """A record that vanished can be created again, and who read the old one cannot replace the new one."""
        first = await _stored(tested.store.create(record()))
        second = await _stored(tested.store.replace(record(), first.version))
        await tested.vanish(record().id)
        again = await _stored(tested.store.create(record()))

        assert Conflict() == await tested.store.replace(record(), first.version)
        assert Conflict() == await tested.store.replace(record(), second.version)
        await _stored(tested.store.replace(record(), again.version))

    async def test_every_digit_and_character_comes_back(self, tested: TestedStore) -> None:
        """Big integers, long decimals, control characters and every script survive; numbers stay numbers."""
        text = 'quote " backslash \\ slash / newline \n tab \t NUL \0 DEL \x7f  Übergröße Ω 漢字 🚨 \u2028 {"a": [1}'
        full = record(
            1,
            Delivery(
                state="retrying",
                owner="host-1-é",
                attempts=3,
                in_doubt=1,
                next_attempt_at=NOW + 5 * SECOND,
                first_at=NOW,
                last_at=NOW + SECOND,
                last_error=text,
                last_status=503,
                channels=(
                    ChannelDelivery("ok", "delivered", log=(Attempt(NOW, 0.25, "accepted", 200, answer=text),)),
                    ChannelDelivery("slow", "retrying", 3, 1, NOW + 5 * SECOND, text, 503),
                ),
            ),
            title=text,
            details={"uint256": 2**256 - 1, "tiny": Decimal("0.1000000000000000055511151231257827"), "text": text},
            extra_field={"delivery.state": "delivered", "n": -(2**200)},
            value_raw=str(2**256 - 1),
            value_usd=Decimal("123456789012345.6789"),
            block_number=2**63 - 1,
            labels={"dotted.key": text},
            links=[],
            occurred_at="2026-03-01T12:00:00.123456+02:00",
        )
        created = await _stored(tested.store.create(full))
        await _stored(tested.store.replace(full, created.version))

        read = await tested.store.get(full.id)
        assert read is not None
        _assert_same(full, read.record)
        [found] = await _search(tested, RecordFilter())
        _assert_same(full, found)

    async def test_delivered_is_a_boolean_of_the_document(self, tested: TestedStore) -> None:
        """`delivered` is in the stored document, false until every channel accepted, then true."""
        first = await _stored(tested.store.create(record()))
        assert msgspec.json.decode(await tested.document(record().id))["delivered"] is False

        await _stored(tested.store.replace(delivered(record()), first.version))
        document = msgspec.json.decode(await tested.document(record().id))
        assert document["delivered"] is True
        assert "delivered" == document["delivery"]["state"]

    async def test_a_record_without_an_alert_is_stored(self, tested: TestedStore) -> None:
        """An entry that could not be parsed has a record too, found by its state."""
        body = b'{"record_id":"%b","stream_id":"1-1"}' % record().id.encode()
        bare = Record(record().id, body, quarantined(Delivery(state="sending"), "bad_json"))
        await _stored(tested.store.create(bare))

        assert [1] == await _found(tested, RecordFilter(state=["quarantined"]))
        assert [] == await _found(tested, RecordFilter(view=["view"]))

    @pytest.mark.parametrize("name", ["view", "scope", "rule_id", "alert_id", "fingerprint"])
    async def test_filters_match_exactly(self, name: str, tested: TestedStore) -> None:
        """A value is found by itself alone: no case folding, no words, no wildcards, no escapes."""
        values = [
            "plain",
            "Plain",
            "two words",
            "two",
            "words two",
            "a:b:c",
            "a/b-c_d.e",
            "ÜBER größe",
            "über grösse",
            "漢字 🚨",
            'say "hi"',
            "it's",
            "back\\slash",
            "back\\\\slash",
            "*",
            "pl*",
            "plai?",
            "pla%n_",
            " ",
            " plain",
            "plain ",
            "null",
            "1",
            "01",
            "(a OR b) AND NOT c~2 ^3 [x TO y]",
            "e\u0301",  # é as two characters, and as one: they are different values
            "\u00e9",
            "x" * 511,
            "x" * 512,
            "漢" * 512,
        ]
        await _fill(tested, [record(number, None, **{name: value}) for number, value in enumerate(values)])

        for number, value in enumerate(values):
            field: dict[str, Any] = {name: [value]}
            assert [number] == _numbers(await tested.store.search(RecordFilter(**field), 100)), value

    async def test_severity_and_state_are_filters_too(self, tested: TestedStore) -> None:
        """The two closed sets filter like the free ones."""
        states: list[State] = ["sending", "delivered", "retrying", "failed", "in_doubt", "suppressed", "quarantined"]
        severities = ["info", "low", "medium", "high", "critical", "high", "low"]
        for number, (state, severity) in enumerate(zip(states, severities, strict=True)):
            delivery = Delivery(state=state, channels=(ChannelDelivery("hook", "failed"),))
            await _stored(tested.store.create(record(number, delivery, severity=severity)))

        for number, state in enumerate(states):
            assert [number] == await _found(tested, RecordFilter(state=[state])), state
        assert [5, 3] == await _found(tested, RecordFilter(severity=["high"]))

    async def test_who_suppressed_it_is_a_filter_too(self, tested: TestedStore) -> None:
        """Whatever the record's state: another channel may have delivered it."""
        for number, (state, by) in enumerate(
            [("suppressed", "silence:1a2b"), ("delivered", "silence:1a2b"), ("suppressed", "night"), ("failed", None)]
        ):
            channels = (ChannelDelivery("hook", "failed"),)
            delivery = Delivery(state=state, suppressed_by=by, channels=channels)  # type: ignore[arg-type]
            await _stored(tested.store.create(record(number, delivery)))

        assert [1, 0] == await _found(tested, RecordFilter(suppressed_by=["silence:1a2b"]))
        assert [2, 1, 0] == await _found(tested, RecordFilter(suppressed_by=["silence:1a2b", "night"]))
        assert [1] == await _found(tested, RecordFilter(suppressed_by=["silence:1a2b"], state=["delivered"]))
        assert [] == await _found(tested, RecordFilter(suppressed_by=["silence:1A2B"]))

    @pytest.mark.parametrize("written", ["0x" + "Ab" * 32, "0X" + "AB" * 32, "0x" + "ab" * 32])
    async def test_hashes_and_addresses_are_found_in_any_case(self, written: str, tested: TestedStore) -> None:
        """Some producers write checksums into the case of an address, others do not; whoever looks has either."""
        contents: list[dict[str, Any]] = [
            {"tx_hash": written},
            {"addresses": ["0xother", written]},
            {"contract": written},
            {"tx_hash": written[:-1], "addresses": [f"{written}0"], "title": written, "labels": {"k": written}},
            {"block_hash": written, "links": [written], "details": {"tx_hash": written}, "tx": written},
        ]
        await _fill(tested, [record(number, None, **fields) for number, fields in enumerate(contents)])

        for asked in ("0x" + "ab" * 32, "0x" + "aB" * 32, "0X" + "AB" * 32):
            assert [0] == _numbers(await tested.store.search(RecordFilter(tx=[asked]), 10))
            assert [2, 1] == _numbers(await tested.store.search(RecordFilter(address=[asked]), 10))
            assert 2 == await tested.store.count(RecordFilter(address=["0xnone", asked]))
        assert [2, 1] == await _found(tested, RecordFilter(address=["0xnone", written]))
        assert [] == await _found(tested, RecordFilter(address=[written], tx=[written]))
        assert [] == await _found(tested, RecordFilter(address=["0x*"], tx=["0x%"]))

    async def test_labels_are_filters_too(self, tested: TestedStore) -> None:
        """Values of one key are alternatives, keys are joined by and; a value is found under its own key alone."""
        labels: list[dict[str, str]] = [
            {"team": "risk", "asset": "LMN"},
            {"team": "ops", "asset": "LMN"},
            {"team": "risk"},
            {"asset": "risk", "team": "Risk"},
            {"other.team": "risk", "team.other": "risk"},
        ]
        await _fill(tested, [record(number, labels=one) for number, one in enumerate(labels)] + [record(5)])

        for wanted, expected in (
            ([("team", "risk")], [2, 0]),
            ([("team", "risk"), ("team", "ops")], [2, 1, 0]),
            ([("team", "risk"), ("asset", "LMN")], [0]),
            ([("team", "risk"), ("asset", "LMN"), ("team", "ops")], [1, 0]),
            ([("asset", "risk")], [3]),
            ([("team", "")], []),
            ([("nothing", "risk")], []),
            ([("team.other", "risk")], [4]),
        ):
            assert expected == _numbers(await tested.store.search(RecordFilter(label=wanted), 10)), wanted
            assert len(expected) == await tested.store.count(RecordFilter(label=wanted))

    async def test_labels_match_exactly(self, tested: TestedStore) -> None:
        """Whatever is in a key or a value: no part of one is taken for the other, for a path or a pattern."""
        pairs = [
            ("a", "b=c"),
            ("a=b", "c"),
            ("a.b", "c"),
            ("a", "b.c"),
            ("a", ""),
            ("A", "b=c"),
            ("a", "B=C"),
            ("*", "*"),
            ("a b", "c d"),
            ("größe", "漢字 🚨"),
            ('say "hi"', 'back\\slash "quoted" / {"a": "b"}'),
            ("%", "_"),
            ("labels", "labels.a=b"),
            ("x" * 256, "y" * 1024),
            ("x" * 256, "漢" * 1024),
            ("line", "one\ntwo\t\0three"),
        ]
        await _fill(tested, [record(number, labels={key: value}) for number, (key, value) in enumerate(pairs)])

        for number, pair in enumerate(pairs):
            assert [number] == _numbers(await tested.store.search(RecordFilter(label=[pair]), 100)), pair

    async def test_channels_are_filters_too(self, tested: TestedStore) -> None:
        """Whatever became of an attempt through them; a name is found as a whole, and nowhere else."""
        for number, names in enumerate((["pager"], ["pager", "chat"], ["chat"], ["pager-2"], ["Pager"])):
            channels = tuple(ChannelDelivery(name, "failed") for name in names)
            delivery = Delivery(state="failed", channels=channels, failed_channels=tuple(names))
            await _stored(tested.store.create(record(number, delivery, title="pager", labels={"name": "pager"})))
        await _stored(tested.store.create(record(5, Delivery(state="suppressed", suppressed_by="pager"))))

        assert [1, 0] == await _found(tested, RecordFilter(channel=["pager"]))
        assert [2, 1, 0] == await _found(tested, RecordFilter(channel=["pager", "chat"]))
        assert [3] == await _found(tested, RecordFilter(channel=["pager-2"], state=["failed"]))
        assert [] == await _found(tested, RecordFilter(channel=["pager"], state=["suppressed"]))

    async def test_words_of_the_title_are_filters_too(self, tested: TestedStore) -> None:
        """All of them, in any order and case, each as a whole; several titles are alternatives."""
        titles = [
            "Oracle deviation on Aave v3",
            "DEVIATION: the oracle is late (0xE846\u2026, 2.4M)",
            "Oracles deviate",
            "清算风险 Größe",
            'It\'s "quoted" \\ 100% of a_b',
            "x" * 400,
        ]
        await _fill(tested, [record(number, title=title) for number, title in enumerate(titles)])

        for words, expected in (
            (["oracle"], [1, 0]),
            (["Deviation ORACLE"], [1, 0]),
            (["oracle, v3!"], [0]),
            (["late", "v3"], [1, 0]),
            (["oracle nothing"], []),
            (["orac"], []),
            (["0xe846"], [1]),
            (["2.4m"], [1]),
            (["风险"], [3]),
            (["GRÖSSE"], []),
            (["GRÖßE"], [3]),
            (["it's quoted"], [4]),
            (["100"], [4]),
            (["a_b"], [4]),
            (["oracle*"], [1, 0]),
            (["orac*"], []),
            (["oracle OR late"], []),
            (["title:oracle"], []),
            (["-"], []),
            ([""], []),
        ):
            assert expected == _numbers(await tested.store.search(RecordFilter(title=words), 10)), words
            assert len(expected) == await tested.store.count(RecordFilter(title=words)), words

    async def test_what_only_people_look_for_is_joined_too(self, tested: TestedStore) -> None:
        """With each other and with the rest, page by page."""
        for number in range(8):
            fields: dict[str, Any] = {"tx_hash": f"0xT{number % 2}", "labels": {"n": str(number)}, "title": "A rate"}
            await _stored(tested.store.create(record(number, view="v" if number < 6 else "w", **fields)))
        await tested.refresh()

        wanted = RecordFilter(view=["v"], tx=["0xt1"], title=["rate"], channel=["hook"], since=NOW)
        pages = Pages(partial(tested.store.search, wanted, 2))
        assert [[5, 3], [1]] == [_numbers(page) async for page in pages]
        assert 3 == await tested.store.count(wanted)
        assert [5, 3] == await _found(tested, dataclasses.replace(wanted, label=[("n", "3"), ("n", "5"), ("n", "6")]))

    async def test_values_are_alternatives_and_fields_are_joined(self, tested: TestedStore) -> None:
        """Values of one field widen the search, further fields narrow it; an empty filter finds everything."""
        for number, (view, scope) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("c", "x")]):
            await _stored(tested.store.create(record(number, view=view, scope=scope, severity="high")))

        assert [2, 1, 0] == await _found(tested, RecordFilter(view=["a", "b"]))
        assert [2, 0] == await _found(tested, RecordFilter(view=["a", "b"], scope=["x"], severity=["high", "low"]))
        assert [] == await _found(tested, RecordFilter(view=["a"], scope=["x"], severity=["low"]))
        assert [] == await _found(tested, RecordFilter(view=["a"], scope=["x"], rule_id=["other"]))
        assert [0] == await _found(
            tested,
            RecordFilter(
                view=["a"],
                scope=["x"],
                severity=["high"],
                state=["sending"],
                rule_id=["rule"],
                alert_id=["alert-0"],
                since=NOW,
                until=NOW + SECOND,
            ),
        )
        assert [3, 2, 1, 0] == await _found(tested, RecordFilter())

    async def test_since_is_included_and_until_is_not(self, tested: TestedStore) -> None:
        """Both are compared with `occurred_at`, to the millisecond, whatever zone it was written in."""
        times = [
            "2026-03-01T11:59:59.999Z",
            "2026-03-01T14:00:00+02:00",
            "2026-03-01T12:00:00.001Z",
            "1969-07-20T20:17:40Z",
        ]
        await _fill(tested, [record(number, occurred_at=moment) for number, moment in enumerate(times)])

        millisecond = dt.timedelta(milliseconds=1)
        assert [2, 1] == await _found(tested, RecordFilter(since=NOW))
        assert [2] == await _found(tested, RecordFilter(since=NOW + millisecond))
        assert [3, 0] == await _found(tested, RecordFilter(until=NOW))
        assert [3, 1, 0] == await _found(tested, RecordFilter(until=NOW + millisecond))
        assert [1] == await _found(tested, RecordFilter(since=NOW, until=NOW + millisecond))
        in_tokyo = NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))
        assert [1] == await _found(tested, RecordFilter(since=in_tokyo, until=in_tokyo + millisecond))

    async def test_a_search_pages_from_the_newest(self, tested: TestedStore) -> None:
        """Pages follow each other without a gap or a repeat, newest entry first, inside a filter too."""
        for number in (3, 0, 4, 1, 2, 5, 6):
            view = "other" if number == 3 else "view"
            await _stored(tested.store.create(record(number, view=view)))
        await tested.refresh()

        pages = Pages(partial(tested.store.search, RecordFilter(view=["view"]), 4))
        assert [[6, 5, 4, 2], [1, 0]] == [_numbers(page) async for page in pages]

    async def test_newest_is_the_highest_entry_id_by_its_numbers(self, tested: TestedStore) -> None:
        """Not by its text, and whatever the stream; up to the 64 bits that a part of an ID has. Pages agree."""
        ids = [
            "0-1",
            "9-1",
            "10-0",
            "10-9",
            "10-10",
            "Alerts-2|10-10",
            "Alerts|11-0",
            "A|b|11-0",
            "Alerts-1|11-20",
            "1767225600000-9",
            "1767225600000-20",
            f"{2**64 - 2}-{2**64 - 1}",
            f"Z|{2**64 - 1}-{2**64 - 2}",
            f"{2**64 - 1}-{2**64 - 1}",
        ]
        ids[6:8] = sorted(ids[6:8])  # of one entry ID in two streams, the stream decides
        await _fill(tested, [record(1, record_id=record_id) for record_id in sorted(ids)])

        assert ids[::-1] == [found.id for found in await tested.store.search(RecordFilter(), 100)]
        for size in (1, 3):
            paged: list[Record] = []
            for _ in range(len(ids)):
                paged += await tested.store.search(RecordFilter(), size, paged[-1] if paged else None)
            assert ids[::-1] == [found.id for found in paged]

    async def test_who_searches_sees_what_was_just_written(self, tested: TestedStore) -> None:
        """Without a wait: the first page of a search, and a count after it, see every write that was answered."""
        for number in range(3):
            before = await _stored(tested.store.create(record(number)))
            assert number + 1 == len(await tested.store.search(RecordFilter(), 10))
            assert number + 1 == await tested.store.count(RecordFilter())
            await _stored(tested.store.replace(record(number, delivery=Delivery(state="suppressed")), before.version))
            assert number + 1 == len(await tested.store.search(RecordFilter(state=["suppressed"]), 10))
            assert number + 1 == await tested.store.count(RecordFilter(state=["suppressed"]))

    async def test_matching_records_are_counted(self, tested: TestedStore) -> None:
        """As many as a search would find, filter by filter."""
        assert 0 == await tested.store.count(RecordFilter())
        await _fill(tested, [record(number, view="a" if number < 2 else "b", severity="high") for number in range(5)])

        for wanted, expected in (
            (RecordFilter(), 5),
            (RecordFilter(view=["a"]), 2),
            (RecordFilter(view=["b"], severity=["high"], since=NOW), 3),
            (RecordFilter(view=["b"], until=NOW), 0),
        ):
            assert expected == await tested.store.count(wanted) == len(await tested.store.search(wanted, 10))
            assert min(expected, 2) <= await tested.store.count(wanted, stop_at=2) <= expected

    @pytest.mark.parametrize("newer", NEWER)
    async def test_a_record_of_a_newer_version_is_seen_and_not_read(self, newer: str, tested: TestedStore) -> None:
        """By its ID it is refused as what it is; searches show it as `unknown`, page past it, and hide no other."""
        await _stored(tested.store.create(NEWER[newer]))
        for number in (1, 3):
            await _stored(tested.store.create(record(number, retrying(NOW))))
        await tested.refresh()

        with pytest.raises(NewerRecord) as caught:
            await tested.store.get(record(2).id)
        assert newer == caught.value.unknown
        seen = [
            (found.id, found.delivery.state, found.fields()["title"])
            async for page in Pages(partial(tested.store.search, RecordFilter(), 1))
            for found in page
        ]
        states = ("retrying", "unknown", "retrying")
        assert [(record(number).id, state, "title") for number, state in zip((3, 2, 1), states, strict=True)] == seen
        assert {record(1).id, record(3).id} <= {due.id for due in await tested.store.due(NOW, 10)}
        assert 3 == await tested.store.count(RecordFilter())
        assert 3 == sum((await tested.store.counts(NOW)).by_state.values())

    async def test_counters_are_written_at_any_value(self, tested: TestedStore) -> None:
        """What is left out can be neither summed nor found as 0: before a send, after it, and where none was made."""
        for number, delivery in enumerate([None, Delivery(state="suppressed"), delivered(record()).delivery]):
            await _stored(tested.store.create(record(number, delivery)))

        for number, attempts in enumerate([1, 0, 1]):
            document = msgspec.json.decode(await tested.document(record(number).id))["delivery"]
            assert (attempts, 0, 0) == (document["attempts"], document["in_doubt"], document["cuts"])
            for channel in document.get("channels", []):
                assert (1, 0) == (channel["attempts"], channel["in_doubt"])

    async def test_due_are_retries_whose_time_has_come(self, tested: TestedStore) -> None:
        """A retry is due from its `next_attempt_at` on."""
        for number, seconds in enumerate([-3600, -1, 0, 1, 3600]):
            await _stored(tested.store.create(record(number, retrying(NOW + seconds * SECOND))))

        assert [0, 1, 2] == await _due(tested, NOW)
        assert [0, 1, 2, 3] == await _due(tested, NOW + SECOND)

    async def test_due_can_look_ahead(self, tested: TestedStore) -> None:
        """What is due later is found, and says when; a lease that still runs is not, since all under way has one."""
        channels: list[tuple[str, ChannelState, int]] = [("pager", "retrying", 9), ("mail", "standby", 60)]
        for number, seconds in enumerate((0, 60, 61)):
            times = [(name, state, NOW + (seconds + later) * SECOND) for name, state, later in channels]
            parts = tuple(ChannelDelivery(name, state, next_attempt_at=at) for name, state, at in times)
            waiting = msgspec.structs.replace(retrying(NOW + (seconds + 9) * SECOND), channels=parts)
            await _stored(tested.store.create(record(number, waiting)))
        await _stored(tested.store.create(record(3, sending(NOW + SECOND))))
        await tested.refresh()

        found = await tested.store.due(NOW, 10, ahead_s=69.0)
        nine, later = NOW + 9 * SECOND, NOW + 69 * SECOND
        assert [Due(record(0).id, next_at=nine), Due(record(1).id, next_at=later)] == found
        due = await tested.store.due(nine, 10)
        assert [Due(record(0).id, ("pager",), next_at=NOW + 60 * SECOND)] == due[:1]
        assert [record(0).id, record(3).id] == [one.id for one in due]

    async def test_due_are_attempts_whose_lease_has_lapsed(self, tested: TestedStore) -> None:
        """An attempt whose lease is over is due; one whose lease runs is not."""
        for number, seconds in enumerate([-3600, -1, 0, 1, 3600]):
            await _stored(tested.store.create(record(number, sending(NOW + seconds * SECOND))))

        assert [0, 1, 2] == await _due(tested, NOW)

    async def test_due_is_what_has_a_time_whatever_its_state(self, tested: TestedStore) -> None:
        """A wait that ends, a fallback of what is in doubt: the time alone says so; a lease counts while `sending`."""
        states: list[State] = ["waiting", "in_doubt", "failed", "delivered", "suppressed", "quarantined", "retrying"]
        past = NOW - 3600 * SECOND
        for number, state in enumerate(states):
            timed = Delivery(state=state, next_attempt_at=past if number < 2 else None, lease_until=past)
            await _stored(tested.store.create(record(number, timed)))
        later = record(8, Delivery(state="waiting", next_attempt_at=NOW + SECOND, lease_until=past))
        await _stored(tested.store.create(later))

        assert [0, 1] == await _due(tested, NOW)

    async def test_due_follows_the_record(self, tested: TestedStore) -> None:
        """A record is due by what was written last."""
        first = await _stored(tested.store.create(record(1, sending(NOW - SECOND))))
        assert [1] == await _due(tested, NOW)

        second = await _stored(tested.store.replace(record(1, sending(NOW + SECOND)), first.version))
        assert [] == await _due(tested, NOW)

        third = await _stored(tested.store.replace(record(1, retrying(NOW)), second.version))
        assert [1] == await _due(tested, NOW)

        await _stored(tested.store.replace(record(1, Delivery(state="delivered")), third.version))
        assert [] == await _due(tested, NOW)

    async def test_due_pages_in_the_order_of_ids(self, tested: TestedStore) -> None:
        """Pages follow each other by ID, mixed states and all, without a gap or a repeat."""
        for number in (5, 2, 0, 4, 1, 3, 6):
            waiting = sending(NOW) if number % 2 else retrying(NOW + (number == 4) * SECOND)
            await _stored(tested.store.create(record(number, waiting)))
        await tested.refresh()

        pages = Pages(partial(tested.store.due, NOW, 4))
        assert [[0, 1, 2, 3], [5, 6]] == [[_number(due.id) for due in page] async for page in pages]

    async def test_due_names_the_channels_that_are_due(self, tested: TestedStore) -> None:
        """Retries and fallbacks whose time has come; a lapsed lease has none, and neither has what nobody can read."""
        channels: list[tuple[str, ChannelState, dt.datetime | None]] = [
            ("pager", "retrying", NOW),
            ("accepted", "delivered", None),
            ("later", "retrying", NOW + SECOND),
            ("chat", "retrying", NOW - SECOND),
            ("given up", "failed", None),
            ("in a queue", "waiting", NOW),
            ("fallback", "standby", NOW),
            ("later fallback", "standby", NOW + SECOND),
        ]
        parts = tuple(ChannelDelivery(name, state, next_attempt_at=at) for name, state, at in channels)
        await _stored(tested.store.create(record(0, msgspec.structs.replace(retrying(NOW), channels=parts))))
        sent = ChannelDelivery("pager", "sending")
        await _stored(tested.store.create(record(1, msgspec.structs.replace(sending(NOW), channels=(sent,)))))
        await tested.refresh()

        due = await tested.store.due(NOW, 10)
        assert [(record(0).id, ("pager", "chat", "fallback"), False), (record(1).id, (), True)] == [
            (one.id, one.channels, one.cut) for one in due
        ]

    async def test_due_tells_what_waits_in_queues(self, tested: TestedStore) -> None:
        """Whatever its time: where it waits, how severe it is, how often it was tried, and whether for too long."""
        tomorrow = NOW + dt.timedelta(days=1)
        pager = ChannelDelivery("pager", "waiting", attempts=2, next_attempt_at=tomorrow)
        chat = ChannelDelivery("chat", "waiting", attempts=0, next_attempt_at=NOW)
        sent, done = ChannelDelivery("email", "sending"), ChannelDelivery("email", "delivered")
        for number, (state, parts) in enumerate(
            (("waiting", (pager, done)), ("sending", (pager, sent)), ("waiting", (chat,)), ("quarantined", (pager,)))
        ):
            queues = tuple(part.name for part in parts if part.state == "waiting")
            delivery = msgspec.structs.replace(
                sending(tomorrow) if state == "sending" else retrying(tomorrow),
                state=state,
                next_attempt_at=min((one.next_attempt_at for one in parts if one.next_attempt_at), default=None)
                if state == "waiting"
                else None,
                channels=parts,
                queues=queues,
            )
            await _stored(tested.store.create(record(number, delivery)))
        await tested.refresh()

        found = await tested.store.due(NOW, 10)
        rank = record().severity_rank
        expected = [
            Due(record(0).id, queues=(Queued("pager", record(0).id, rank, 2),)),
            Due(record(1).id, queues=(Queued("pager", record(1).id, rank, 2),)),
            Due(record(2).id, queues=(Queued("chat", record(2).id, rank),), expired=True),
        ]
        assert expected == found
        assert 1 == rank

    async def test_counts_by_state_and_overdue(self, tested: TestedStore) -> None:
        """States that occur are counted; a retry is overdue when its time passed more than a minute ago."""
        assert Counts({}, overdue=0, in_doubt=0) == await tested.store.counts(NOW)

        deliveries = [
            *[retrying(NOW - seconds * SECOND) for seconds in (3600, 61, 60, 59, -60)],
            sending(NOW - 3600 * SECOND),
            sending(NOW + 3600 * SECOND),
            *[Delivery(state="delivered", next_attempt_at=NOW - 3600 * SECOND) for _ in range(3)],
            Delivery(state="failed"),
        ]
        await _fill(tested, [record(number, delivery) for number, delivery in enumerate(deliveries)])

        expected = Counts({"retrying": 5, "sending": 2, "delivered": 3, "failed": 1}, overdue=2, in_doubt=0)
        assert expected == await tested.store.counts(NOW)

    async def test_what_is_in_doubt_is_found_by_its_channels(self, tested: TestedStore) -> None:
        """While another channel is sent to, retried or waited for, too; a doubt that a fallback made good is none."""
        states: list[State] = ["sending", "retrying", "waiting", "in_doubt", "failed", "delivered", "suppressed"]
        held = (ChannelDelivery("pager", "in_doubt"),)
        doubtful = [Delivery(state=state, in_doubt_channels=("pager",), channels=held) for state in states]
        older = Delivery(state="in_doubt", channels=held)
        others = [
            msgspec.structs.replace(retrying(NOW), channels=(ChannelDelivery("chat", "retrying"),)),
            msgspec.structs.replace(sending(NOW), channels=(ChannelDelivery("chat", "sending"),)),
            older,
        ]
        await _fill(tested, [record(number, delivery) for number, delivery in enumerate((*doubtful, *others))])

        assert 5 == (await tested.store.counts(NOW)).in_doubt
        assert [9, 3, 2, 1, 0] == await _found(tested, RecordFilter(state=["in_doubt"]))
        assert [9, 7, 3, 2, 1, 0] == await _found(tested, RecordFilter(state=["in_doubt", "retrying"]))
        assert [7, 1] == await _found(tested, RecordFilter(state=["retrying"]))
        assert 6 == await tested.store.count(RecordFilter(state=["retrying", "in_doubt"]))

    async def test_what_waits_is_counted_by_channel(self, tested: TestedStore) -> None:
        """Records that wait for a retry count for the channel that it goes through, and for no other."""
        assert {} == await tested.store.waiting()

        pager, chat = ChannelDelivery("pager", "retrying"), ChannelDelivery("chat", "retrying")
        deliveries = [
            Delivery(
                state="retrying", channels=(pager, ChannelDelivery("chat", "failed")), retrying_channels=("pager",)
            ),
            Delivery(
                state="retrying",
                channels=(ChannelDelivery("mail", "delivered"), pager, chat),
                retrying_channels=("pager", "chat"),
            ),
            Delivery(state="sending", channels=(ChannelDelivery("mail", "sending"),)),
            Delivery(state="delivered", channels=(ChannelDelivery("pager", "delivered"),)),
            Delivery(state="failed", channels=(ChannelDelivery("chat", "failed"),)),
        ]
        await _fill(tested, [record(number, delivery) for number, delivery in enumerate(deliveries)])

        assert {"pager": 2, "chat": 1} == await tested.store.waiting()

    async def test_vitals_tell_what_waits_longest(self, tested: TestedStore) -> None:
        """The oldest record under way, retried, in a queue or in doubt; what is final waits no more."""
        assert Vitals(None, 0) == await tested.store.vitals()

        states: list[State] = ["delivered", "failed", "suppressed", "quarantined", "sending", "retrying", "in_doubt"]
        for number, state in enumerate(states):
            first_at = None if state == "suppressed" else NOW + number * SECOND
            await _stored(tested.store.create(record(number, Delivery(state=state, first_at=first_at))))
        await tested.refresh()
        assert NOW + 4 * SECOND == (await tested.store.vitals()).waiting_since

        await _stored(tested.store.create(record(8, Delivery(state="in_doubt", first_at=NOW + 3.5 * SECOND))))
        await tested.refresh()
        assert NOW + 3.5 * SECOND == (await tested.store.vitals()).waiting_since

        await _stored(tested.store.create(record(9, Delivery(state="waiting", first_at=NOW))))
        await tested.refresh()
        assert NOW == (await tested.store.vitals()).waiting_since

    async def test_vitals_count_what_a_producer_wrote_twice(self, tested: TestedStore) -> None:
        """Every record but the first of each `alert_id`; records without an alert repeat nothing."""
        for number, alert_id in enumerate(["a", "b", "a", "c", "a", "b"]):
            await _stored(tested.store.create(record(number, alert_id=alert_id)))
        for number in (7, 8):
            bare = Record(record(number).id, b'{"stream_id":"1-1"}', Delivery(state="quarantined"))
            await _stored(tested.store.create(bare))
        await tested.refresh()

        assert 3 == (await tested.store.vitals()).repeated

    async def test_canaries_are_in_no_figure_and_found_only_if_asked_for(self, tested: TestedStore) -> None:
        """Neither found nor counted as alerts, whatever their state; but due as any alert is, and read by ID."""
        sink = (ChannelDelivery("~canary", "retrying"),)
        late = msgspec.structs.replace(retrying(NOW - 3600 * SECOND), channels=sink, retrying_channels=("~canary",))
        doubt = Delivery(state="in_doubt", first_at=NOW, channels=(ChannelDelivery("~canary", "in_doubt"),))
        one, other = (record(number).id for number in (1, 2))
        canaries = [record(1, late, f"~canary|{one}"), record(2, doubt, f"~canary|Stream|{other}")]
        await _fill(tested, [*canaries, record(3, Delivery(state="failed", channels=sink))])
        store = tested.store

        assert Counts({"failed": 1}, overdue=0, in_doubt=0) == await store.counts(NOW)
        assert ({}, Vitals(None, 0)) == (await store.waiting(), await store.vitals())
        assert [3] == await _found(tested, RecordFilter())
        assert [] == await _found(tested, RecordFilter(state=["in_doubt", "retrying"]))
        assert 1 == await store.count(RecordFilter())
        found = await store.search(RecordFilter(canaries=True), 10)
        assert [record(3).id, f"~canary|Stream|{other}", f"~canary|{one}"] == [one.id for one in found]
        assert [f"~canary|{one}"] == [due.id for due in await store.due(NOW, 10)]
        assert None is not await store.get(f"~canary|{one}")

    async def test_a_removed_record_is_gone(self, tested: TestedStore) -> None:
        """Whatever its version, and at once; what is not there need not be removed. Others stay."""
        for number in (1, 2):
            await _stored(tested.store.create(record(number)))

        await tested.store.remove(record(1).id)
        await tested.store.remove(record(1).id)

        assert None is await tested.store.get(record(1).id)
        assert None is not await tested.store.get(record(2).id)
        assert isinstance(await tested.store.create(record(1)), Stored)

    async def test_a_store_is_one_deployments(self, tested: TestedStore) -> None:
        """The first identity stays, whoever comes; to replace it is another call. The guard minds none of it."""
        store = tested.store
        assert None is await store.deployment()
        assert "ours" == await store.keep_deployment("ours")
        assert "ours" == await store.keep_deployment("theirs")
        assert "ours" == await store.deployment()
        await store.guard()

        await store.replace_deployment("theirs")
        assert "theirs" == await store.deployment()
        assert "theirs" == await store.keep_deployment("ours")
        await store.prepare()
        await store.guard()
        assert "theirs" == await store.deployment()

    async def test_of_many_creates_one_wins(self, tested: TestedStore) -> None:
        """Of 100 workers that create one record at once, exactly one is told that it did."""
        contenders = [record(title=f"contender {number}") for number in range(100)]
        results = await _at_once([partial(tested.store.create, one) for one in contenders])

        await _assert_one_winner(results, tested)

    async def test_of_many_replaces_one_wins(self, tested: TestedStore) -> None:
        """Of 200 workers that claim one version at once, exactly one is told that it has it."""
        first = await _stored(tested.store.create(record()))
        contenders = [record(title=f"contender {number}") for number in range(200)]
        results = await _at_once([partial(tested.store.replace, one, first.version) for one in contenders])

        await _assert_one_winner(results, tested)

    async def test_many_writes_at_once_each_get_their_own_result(self, tested: TestedStore) -> None:
        """Creates, conflicts and replaces of one moment do not mix up their answers."""
        olds = [await _stored(tested.store.create(record(number))) for number in range(20)]
        writes: list[Callable[[], Awaitable[Stored | Conflict]]] = []
        for number in range(20):
            version = olds[number].version
            writes += [
                partial(tested.store.create, record(number, title="late")),
                partial(tested.store.create, record(100 + number, title="new")),
                partial(tested.store.replace, record(number, title="moved on"), version),
                partial(tested.store.replace, record(200 + number), version),
            ]
        results = await _at_once(writes)

        titles = [result.record.fields()["title"] if isinstance(result, Stored) else "" for result in results]
        assert ["", "new", "moved on", ""] * 20 == titles
        for result in results:
            if isinstance(result, Stored):
                assert result == await tested.store.get(result.record.id)

    @pytest.mark.parametrize("checkpoints", [0, 1, 2, 3, 10])
    async def test_a_cancelled_writer_harms_nobody(self, checkpoints: int, tested: TestedStore) -> None:
        """Cancelled at any moment, a write happened as a whole or not at all, and the others' are all there."""
        scopes = [trio.CancelScope() for _ in range(40)]
        results: dict[int, Stored | Conflict] = {}

        async def write(number: int) -> None:
            with scopes[number]:
                results[number] = await tested.store.create(record(number))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(write, number)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                for number in range(0, 40, 4):
                    scopes[number].cancel()

        for number in range(40):
            if number % 4:
                assert isinstance(results[number], Stored)
            read = await tested.store.get(record(number).id)
            if number in results:
                assert results[number] == read
            elif read is not None:
                _assert_same(record(number), read.record)

    async def test_a_cancelled_replace_is_carried_out_and_answered(self, tested: TestedStore) -> None:
        """What came of an attempt is stored whatever becomes of the task that stores it."""
        before = await _stored(tested.store.create(record(1)))
        with trio.fail_after(PATIENCE_S), trio.CancelScope() as scope:
            scope.cancel()
            after = await _stored(tested.store.replace(record(1, title="moved on"), before.version))

        assert after == await tested.store.get(record(1).id)
        assert "moved on" == after.record.fields()["title"]


async def _stored(write: Awaitable[Stored | Conflict]) -> Stored:
    result = await write
    assert isinstance(result, Stored)
    return result


async def _fill(tested: TestedStore, records: Sequence[Record]) -> None:
    """Create records, and let searches see them."""
    for one in records:
        await _stored(tested.store.create(one))
    await tested.refresh()


async def _search(tested: TestedStore, wanted: RecordFilter) -> list[Record]:
    await tested.refresh()
    return await tested.store.search(wanted, 1000)


async def _found(tested: TestedStore, wanted: RecordFilter) -> list[int]:
    return _numbers(await _search(tested, wanted))


async def _due(tested: TestedStore, now: dt.datetime) -> list[int]:
    await tested.refresh()
    return [_number(due.id) for due in await tested.store.due(now, 1000)]


async def _at_once(writes: Sequence[Callable[[], Awaitable[Stored | Conflict]]]) -> Sequence[object]:
    with trio.fail_after(PATIENCE_S):
        results = await results_of(writes)
    assert {Stored, Conflict} == {type(result) for result in results}
    return results


async def _assert_one_winner(results: Sequence[object], tested: TestedStore) -> None:
    winners = [number for number, result in enumerate(results) if isinstance(result, Stored)]
    assert 1 == len(winners)
    read = await tested.store.get(record().id)
    assert read is not None
    assert f"contender {winners[0]}" == read.record.fields()["title"]
    assert results[winners[0]] == Stored(read.record, read.version)


def _numbers(records: Sequence[Record]) -> list[int]:
    return [_number(found.id) for found in records]


def _number(record_id: str) -> int:
    return int(record_id.rpartition("-")[2])


def _assert_same(expected: Record, actual: Record) -> None:
    """A store may re-order a document; every value must be the same."""
    assert expected.id == actual.id
    assert expected.fields() == actual.fields()
    assert expected.delivery == actual.delivery
