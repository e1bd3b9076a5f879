import contextlib
import datetime as dt
import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.alert import Entry, parse_entry
from trio_alerts.errors import NewerRecord, ParseFault, RefusedContent
from trio_alerts.event import MAX_PAYLOAD_BYTES, AlertEvent, _fast_path, _slow_path, parse_event
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
EVENT: dict[str, Any] = {
    "alert_id": "a-1",
    "rule_id": "r-1",
    "view": "Lending",
    "scope": "aave v3: WBTC",
    "severity": "high",
    "title": "Position liquidatable",
    "occurred_at": "2026-11-23T11:59:58Z",
}


def entry_of(payload: bytes | None) -> Entry:
    return Entry("AlertStream", "1-0", {} if payload is None else {b"event": payload}, "1-0")


def record_of(**fields: object) -> Record:
    alert = parse_entry(entry_of(json.dumps(EVENT | fields).encode()), NOW)
    return Record("1-0", alert.body, first_attempt(["webhook"], "me/1", NOW, 60.0))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, "missing_event"),
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b"[1]", "bad_event"),
        (b'"text"', "bad_event"),
        (b"null", "bad_event"),
        (b"{} {}", "bad_json"),
        (b'{"alert_id": NaN}', "bad_json"),
        (b'{"details":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_json"),
        (json.dumps(EVENT | {"title": "\ud800"}).encode(), "bad_json"),
        (json.dumps(EVENT | {"details": {"a": "\udfff"}}).encode(), "bad_json"),
        (json.dumps(EVENT | {"description": "x" * 300 * 1024}).encode(), "too_large"),
        (json.dumps({"alert_id": "a-1"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"severity": "urgent"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"view": ""}).encode(), "bad_event"),
        (json.dumps(EVENT | {"scope": "x" * 513}).encode(), "bad_event"),
        (json.dumps(EVENT | {"occurred_at": "yesterday"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"occurred_at": "2026-11-23T12:00:00"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"occurred_at": "0001-01-01T00:00:00+14:00"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"labels": {"a": 1}}).encode(), "bad_event"),
        (json.dumps(EVENT | {"labels": {str(n): "" for n in range(65)}}).encode(), "bad_event"),
        (json.dumps(EVENT | {"labels": {"k" * 257: ""}}).encode(), "bad_event"),
        (json.dumps(EVENT | {"labels": {"k": "v" * 1025}}).encode(), "bad_event"),
        (json.dumps(EVENT | {"value_raw": "0x10"}).encode(), "bad_event"),
        (json.dumps(EVENT | {"chain_id": 2**63}).encode(), "bad_event"),
        (json.dumps(EVENT | {"schema_version": "2"}).encode(), "bad_event"),
        (json.dumps(EVENT)[:-1].encode() + b',"value_usd":1e999}', "bad_event"),
        (json.dumps(EVENT)[:-1].encode() + b',"block_number":' + b"9" * 5000 + b"}", "bad_event"),
        (json.dumps(EVENT)[:-1].encode() + b',"details":1e' + b"9" * 40 + b"}", "bad_json"),
    ],
)
def test_what_is_no_alert_is_a_parse_fault(payload: bytes | None, reason: str) -> None:
    """Whatever a producer writes, the parser answers with one kind of error and a word for counting."""
    with pytest.raises(ParseFault) as caught:
        parse_entry(entry_of(payload), NOW)
    assert reason == caught.value.reason


NUMBERS = ["0", "-0", "1.0", "-0.0", "1.50", "1e2", "9" * 30, "0.10000000000000000555", "1e400", "1e" + "9" * 20]
VALUES = st.sampled_from(
    [
        *NUMBERS,
        *("null", "true", '""', '"text"', '"\\ud800"', '"\\u0041"', '"2026-11-23T12:00:00.25+02:00"', '"2026-11-23"'),
        *('"high"', '"firing"', '"1.2"', "[]", '["0xAB"]', "[1]", "{}", '{"a": 1.0, "a": 2}', '{"k":"v"}', '{"k":{}}'),
        *('{"score":1.0,"factors":[1.50, {}]}', '{"score":null,"more":1}', '{"factors":null}', '{"factors":"\\udfff"}'),
        *("[1,]", "nul", "\xff"),
    ]
)
NAMES = st.sampled_from([*AlertEvent.__struct_fields__, "unknown", "ti\\u0074le", ""])
FIELDS = st.one_of(
    st.tuples(st.sampled_from(["value_usd", "threshold", "confidence"]), st.sampled_from(NUMBERS)),
    st.tuples(
        st.sampled_from(["title", "type", "description", "value_raw"]), st.sampled_from(['"text"', "null", '"1"'])
    ),
    st.tuples(st.sampled_from(["details", "risk"]), VALUES),
    st.tuples(NAMES, VALUES),
)


@given(st.lists(FIELDS, max_size=4, unique_by=lambda field: field[0]), st.booleans())
def test_the_short_way_to_an_alert_leads_where_the_long_one_does(more: list[tuple[str, str]], first: bool) -> None:
    """What is decoded straight into the type is what the way by a mapping gives, whatever the JSON looks like."""
    required = [f'"{name}": {json.dumps(value)}' for name, value in EVENT.items()]
    others = [f'"{name}":{value}' for name, value in more]
    payload = f"{{{', '.join(others + required if first else required + others)}}}".encode("latin-1")
    event = _fast_path(payload)
    if event is not None:
        assert _slow_path(payload) == event
        assert msgspec.json.encode(_slow_path(payload)) == msgspec.json.encode(event)


@pytest.mark.parametrize("number", NUMBERS[:-1])
def test_usual_alerts_take_the_short_way(number: str) -> None:
    """The way that costs half is taken, not only there."""
    event = EVENT | {"details": {"a": [1, 2.5]}, "risk": {"score": 0.5, "factors": ["x"]}, "labels": {"team": "risk"}}
    assert _fast_path(json.dumps(event)[:-1].encode() + b',"threshold":%b}' % number.encode()) is not None


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_parser(payload: bytes) -> None:
    """Arbitrary bytes are an alert or a parse fault, nothing else."""
    with contextlib.suppress(ParseFault):
        parse_event(payload)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_details_come_out_as_they_went_in(details: object) -> None:
    """A receiver gets the details and factors that the producer meant, large integers and odd text included."""
    risk = {"score": 0.5, "factors": details}
    try:
        record = record_of(details=details, risk=risk)
    except ParseFault:
        assert "\\ud" in json.dumps(details)
    else:
        sent = json.loads(record.payload())
        assert (details, risk) == (sent["details"], sent["risk"])


def test_free_json_is_kept_as_text() -> None:
    """What a producer may shape freely is text in the record: no mapping, depth or name in it can refuse the record."""
    record = record_of(details={"a": 1}, risk={"factors": [{"": [[1]]}]}, more={"b": 2})
    fields = record.fields()

    assert ('{"a":1}', '[{"":[[1]]}]', '{"more":{"b":2}}') == (
        fields["details"],
        fields["risk"]["factors"],
        fields["extra"],
    )


def test_the_message_of_a_fault_says_where_and_keeps_the_payload_to_itself() -> None:
    """A fault names the field; it does not repeat what may be a secret."""
    with pytest.raises(ParseFault, match=r"\$\.labels") as caught:
        parse_event(json.dumps(EVENT | {"labels": {"token": 123456}}).encode())
    assert "123456" not in str(caught.value)


UNREADABLE_EXPONENT = "a number cannot be read: its exponent has more than 18 digits"
DOUBLE = "Expected a number that fits a double (up to 1.8e308) - at `$.%s`"
SURROGATE = "a string holds a lone surrogate, which no UTF-8 can carry"


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ('"value_usd":"12.5"', "Expected a number, got a text - at `$.value_usd`"),
        ('"threshold":true', "Expected a number, got true or false - at `$.threshold`"),
        ('"confidence":[0.5]', "Expected a number, got a list - at `$.confidence`"),
        ('"risk":{"score":"0.5"}', "Expected a number, got a text - at `$.risk.score`"),
        ('"risk":{"score":{},"more":1}', "Expected a number, got an object - at `$.risk.score`"),
        ('"chain_id":true', "Expected `int | null`, got `bool` - at `$.chain_id`"),
        ('"log_index":"1"', "Expected `int | null`, got `str` - at `$.log_index`"),
        ('"value_raw":true', "Expected `str | null`, got `bool` - at `$.value_raw`"),
        ('"value_usd":1e400', DOUBLE % "value_usd"),
        ('"threshold":-1e400', DOUBLE % "threshold"),
        (f'"confidence":{"9" * 400}', DOUBLE % "confidence"),
        ('"risk":{"score":1e309}', DOUBLE % "risk.score"),
        ('"block_number":9223372036854775808', "Expected `int` <= 9223372036854775807 - at `$.block_number`"),
        (f'"details":{"9" * 5000}', "Integer value out of range - at `$[...]`"),
        ('"details":[1e1000000000000000000]', UNREADABLE_EXPONENT),
        ('"value_usd":1e-9999999999999999999999', UNREADABLE_EXPONENT),
        ('"title":"\\ud800"', SURROGATE),
        ('"details":"\\ud800\\u0041"', SURROGATE),
        ('"details":{"\\udfff":1}', SURROGATE),
        ('"labels":{"a":"\\\\\\ud800"}', SURROGATE),
    ],
)
def test_what_cannot_be_read_is_told_in_words(field: str, says: str) -> None:
    """A look-alike of a number, a number that nothing holds, half a character: the producer is told which it is."""
    with pytest.raises(ParseFault) as caught:
        parse_entry(entry_of(f"{json.dumps(EVENT)[:-1]},{field}}}".encode()), NOW)
    assert says == str(caught.value)


@pytest.mark.parametrize(
    "field", ['"title":"\\\\ud800"', '"title":"\\ud83d\\ude80"', '"details":1e400', '"value_usd":1e308']
)
def test_what_only_looks_unreadable_is_an_alert(field: str) -> None:
    """An escaped backslash, a pair of surrogates, a large number where no double is needed."""
    parse_entry(entry_of(f"{json.dumps(EVENT)[:-1]},{field}}}".encode()), NOW)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31t23:59:60.75z", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T15:59:60-08:00", "2016-12-31T23:59:59.999999Z"),
        ("2017-01-01T05:29:60.5+05:30", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T23:59:60+01:00", None),
        ("2016-12-31T12:00:60Z", None),
        ("2016-12-31T23:59:61Z", None),
        ("2016-13-31T23:59:60Z", None),
        ("0001-01-01T00:59:60+14:00", None),
        ("2016-12-31T23:59:60", None),
    ],
)
def test_a_leap_second_is_a_time(written: str, stored: str | None) -> None:
    """It is stored as the last microsecond before it, in its own minute; 61 seconds elsewhere are no time."""
    fault = pytest.raises(ParseFault, match="Invalid RFC3339") if stored is None else contextlib.nullcontext()
    with fault:
        assert [stored] * 2 == list(
            map(record_of(occurred_at=written, expires_at=written).fields().get, ("occurred_at", "expires_at"))
        )


def test_unknown_fields_of_the_risk_are_kept_like_other_unknown_ones() -> None:
    """They lie under `extra`, in `risk`, as the producer wrote them; what is known stays in its place."""
    record = record_of(risk={"score": 0.5, "model": "v7", "extra": [1]}, more=2)

    assert {"score": Decimal("0.5")} == record.fields()["risk"]
    assert '{"more":2,"risk":{"extra":[1],"model":"v7"}}' == record.fields()["extra"]
    assert {"more": 2, "risk": {"extra": [1], "model": "v7"}} == json.loads(record.payload())["extra"]


def test_the_largest_payload_is_accepted() -> None:
    """The limit is 256 KiB, that size included."""
    bare = json.dumps(EVENT | {"description": ""}).encode()
    payload = json.dumps(EVENT | {"description": "x" * (MAX_PAYLOAD_BYTES - len(bare))}).encode()
    assert MAX_PAYLOAD_BYTES == len(payload)
    parse_event(payload)


def test_numbers_keep_every_digit() -> None:
    """A uint256 as a bare number and a decimal longer than a double survive storing and sending."""
    largest = 2**256 - 1
    payload = json.dumps(EVENT)[:-1] + f',"value_raw":{largest},"value_usd":0.1000000000000000055,"details":{largest}}}'
    alert = parse_entry(entry_of(payload.encode()), NOW)
    record = Record("1-0", alert.body, first_attempt(["w"], "me/1", NOW, 60.0))

    assert str(largest) == record.fields()["value_raw"]
    sent = Record.from_json("1-0", record.to_json()).payload()
    assert f'"details":{largest}'.encode() in sent
    assert b'"value_usd":0.1000000000000000055' in sent


@pytest.mark.parametrize("field", ["occurred_at", "emitted_at", "expires_at"])
def test_times_are_rendered_in_one_form(field: str) -> None:
    """Whatever the offset was, a stored time is RFC 3339 in UTC."""
    assert "2026-11-23T10:00:00.250000Z" == record_of(**{field: "2026-11-23T12:00:00.25+02:00"}).fields()[field]


def test_unknown_fields_cannot_forge_the_delivery() -> None:
    """Unknown fields lie under `extra` as text: none of them becomes part of the record's own fields."""
    record = record_of(**{"delivery.state": "delivered", "delivered": True, "delivery": {"state": "delivered"}})
    document = json.loads(record.to_json())

    assert document["delivered"] is False
    assert "sending" == document["delivery"]["state"]
    assert "delivery.state" not in document
    assert json.loads(document["extra"]) == {
        "delivered": True,
        "delivery": {"state": "delivered"},
        "delivery.state": "delivered",
    }


def test_a_producer_s_own_extra_is_one_more_unknown_field() -> None:
    """It lies under `extra` like the others, also when it is the only one."""
    record = record_of(extra={"a": 1})
    assert '{"extra":{"a":1}}' == record.fields()["extra"]
    assert {"extra": {"a": 1}} == json.loads(record.payload())["extra"]


def test_a_record_is_one_line_whatever_the_details_hold() -> None:
    """No byte of the producer's rendering can end a line of a `_bulk` body and begin an action."""
    payload = json.dumps(EVENT)[:-1].encode() + b',\n"details":\n{"a":\n"\\n{\\"delete\\":{\\"_id\\":\\"2-0\\"}}\\n"}}'
    alert = parse_entry(entry_of(payload), NOW)
    document = Record("1-0", alert.body, first_attempt(["w"], "me/1", NOW, 60.0)).to_json()
    assert b"\n" not in document
    assert b"\r" not in document


def test_a_record_read_back_is_the_same() -> None:
    """`from_json` undoes `to_json`."""
    record = record_of(details={"a": [1, 2.50]}, labels={"team": "risk"}, addresses=["0xAB"])
    assert record == Record.from_json(record.id, record.to_json())


@pytest.mark.parametrize("body", ['"stream_id":"1-1",', '"record_id":null,', ""])
def test_a_record_that_lost_its_id_gets_it_back(body: str) -> None:
    """Pages are ordered by `record_id`: the next write brings back what somebody removed."""
    record = Record.from_json("1-1", f'{{{body}"delivery":{{"state":"quarantined"}}}}')

    assert "1-1" == msgspec.json.decode(record.to_json())["record_id"]


def test_a_record_of_an_older_release_is_read() -> None:
    """What it left out is what it meant: counters at 0, a channel's attempts at 1, no lists, no order."""
    document = b'{"alert_id":"a","delivery":{"state":"sending","channels":[{"name":"w","state":"sending"}]}}'
    delivery = Record.from_json("1-0", document).delivery

    assert (0, 0, 0, ()) == (delivery.attempts, delivery.in_doubt, delivery.cuts, delivery.failed_channels)
    assert (1, 0) == (delivery.channels[0].attempts, delivery.channels[0].in_doubt)


LOG = b'"channels":[{"name":"hook","state":"failed","log":[%b]}]'


@pytest.mark.parametrize(
    "document",
    [
        b'{"alert_id":"a","delivery":{"state":["sent"]}}',
        b'{"alert_id":"a","delivery":{"state":"failed","attempts":"3"}}',
        b'{"alert_id":"a"}',
        b'{"alert_id":"a","details":1,"delivery":{"state":"failed"}}',
        b'{"risk":{"factors":[]},"delivery":{"state":"failed"}}',
        b"[]",
        b"{",
        b'{"a":1e99999999999999999999,"delivery":{"state":"failed"}}',
        b"5",
        b"null",
        b"",
        b"\xff",
        b"[" * 100_000,
        "\udcff",
        None,
        5,
        *(
            b'{%b,"delivery":{"state":"failed","channels":[{"name":"hook","state":"failed"}]}}' % body
            for body in (
                b'"view":5',
                b'"view":["a"]',
                b'"title":{}',
                b'"record_id":1',
                b'"content_sha256":[]',
                b'"occurred_at":"2026-11-23T12:00:00"',
                b'"occurred_at":"soon"',
                b'"details":"{"',
                b'"extra":""',
                b'"risk":{"factors":"[1,"}',
            )
        ),
        *(
            b'{"delivery":{"state":"retrying","channels":[{"name":"hook","state":"retrying"}],%b}}' % delivery
            for delivery in (
                b'"channels":[]',
                b'"channels":null',
                b'"channels":[{}]',
                b'"channels":[{"name":"hook","state":5}]',
                b'"channels":[{"name":5,"state":"failed"}]',
                b'"channels":[{"name":"hook","state":"failed","attempts":-1}]',
                b'"channels":[{"name":"hook","state":"failed","attempts_before":1.5}]',
                b'"channels":[{"name":"hook","state":"failed","next_attempt_at":"2026-11-23T12:00:00"}]',
                b'"channels":[{"name":"hook","state":"failed","log":[{}]}]',
                b'"channels":[{"name":"hook","state":"failed","log":{}}]',
                LOG % b'{"at":"2026-11-23T12:00:00","duration_s":1,"result":"retry"}',
                LOG % b'{"at":"2026-11-23T12:00:00Z","duration_s":1e999,"result":"retry"}',
                b'"state":null',
                b'"lease_until":"2026-11-23T12:00:00"',
                b'"lease_until":1764000000',
                b'"next_attempt_at":"2026-11-23 noon"',
                b'"next_attempt_at":"9999-12-31T23:59:59-12:00"',
                b'"first_at":"0001-01-01T00:00:00+12:00"',
                b'"attempts":true',
                b'"attempts":2147483648',
                b'"in_doubt":-1',
                b'"last_status":99999999999999999999',
                b'"last_error":[]',
                b'"owner":null',
            )
        ),
    ],
)
def test_a_record_that_somebody_broke_is_noticed(document: Any) -> None:
    """A record that makes no sense any more is refused, not guessed at; the message names it."""
    with pytest.raises(RefusedContent, match="'1-0' was changed by somebody else") as caught:
        Record.from_json("1-0", document)
    assert "unreadable_record" == caught.value.reason


NEWER_CHANNEL = b'{"delivery":{"state":"retrying","channels":[{"name":"hook","state":"retrying",%b}]}}'


@pytest.mark.parametrize(
    ("document", "unknown"),
    [
        (b'{"delivery":{"state":"paused"}}', "delivery.state 'paused'"),
        (b'{"delivery":{"state":"unknown"}}', "delivery.state 'unknown'"),
        (b'{"delivery":{"state":"suppressed","silence":{"id":7}}}', "delivery.silence"),
        (NEWER_CHANNEL % b'"state":"paused"', "delivery.channels.state 'paused'"),
        (NEWER_CHANNEL % b'"kind":"carrier pigeon"', "delivery.channels.kind"),
        (NEWER_CHANNEL % b'"log":[{"result":"deferred"}]', "delivery.channels.log.result 'deferred'"),
        (NEWER_CHANNEL % b'"log":[{"room":"ops"}]', "delivery.channels.log.room"),
        (b'{"delivery":{"state":"suppressed"},"runbook":"x"}', "runbook"),
        (b'{"delivery":{"state":"suppressed"},"risk":{"model":"x"}}', "risk.model"),
        (b'{"delivery":{"state":"paused","attempts":"many"},"title":5}', "delivery.state 'paused'"),
        (b'{"delivery":{"state":"retrying"},"members":["1-0"]}', "members"),
    ],
)
def test_a_record_of_a_newer_version_is_not_taken_for_a_broken_one(document: bytes, unknown: str) -> None:
    """A state or a field that is not known, however deep, is named; what only a newer version knows is not judged."""
    with pytest.raises(NewerRecord, match="a newer version wrote record '1-0'") as caught:
        Record.from_json("1-0", document)
    assert unknown == caught.value.unknown


FIRST_READS = """
import sys, threading
from trio_alerts.record import Record
sys.setswitchinterval(1e-6)
document = b'{"delivery":{"state":"sending","channels":[{"name":"w","state":"sending"}]}}'
together = threading.Barrier(4)

def read():
    together.wait()
    Record.from_json("1-0", document)

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_read_their_first_records_at_once() -> None:
    """SQLite's threads do: what msgspec prepares at a first use is prepared before, or two of three processes crash."""
    assert [0] * 8 == [subprocess.run([sys.executable, "-c", FIRST_READS], check=False).returncode for _ in range(8)]


def test_the_content_hash_is_that_of_the_payload() -> None:
    """A message ID that is used again with other content can be told from a redelivery."""
    assert record_of().content_sha256 != record_of(title="another").content_sha256
    assert record_of().content_sha256 == record_of().content_sha256


def test_the_program_s_own_fields_are_not_sent() -> None:
    """A receiver gets the alert, not the record's bookkeeping."""
    assert EVENT == json.loads(record_of().payload())
