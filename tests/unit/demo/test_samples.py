"""What the demo emits."""

from itertools import pairwise

import msgspec
import pytest

from trio_alerts.demo.samples import MALFORMED, malformed_entries, read_examples, renewed, sample_entries
from trio_alerts.errors import ParseFault
from trio_alerts.event import parse_event


def is_alert(fields: dict[bytes, bytes]) -> bool:
    try:
        parse_event(fields[b"event"])
    except (KeyError, ParseFault):
        return False
    return True


def test_every_alert_is_valid_and_has_an_id_of_its_own() -> None:
    """So many alerts as were asked for, all valid and distinct, however few examples there are."""
    entries = list(sample_entries(250, read_examples()))
    alerts = [parse_event(fields[b"event"]) for fields in entries if is_alert(fields)]

    assert 250 == len({alert.alert_id for alert in alerts})
    assert 250 + MALFORMED == len(entries)


@pytest.mark.parametrize("alerts", [1, 3, 5, 6, 7, 600])
def test_what_is_no_alert_is_always_there(alerts: int) -> None:
    """Small runs have all the malformed entries, too; large ones never two of them in a row."""
    good = [is_alert(fields) for fields in sample_entries(alerts, read_examples())]

    assert (alerts, MALFORMED) == (good.count(True), good.count(False))
    if alerts > 2 * MALFORMED:
        assert (False, False) not in pairwise(good)


def test_each_malformed_entry_is_refused_for_a_reason() -> None:
    """They show that what can never be an alert is told apart: no field, no JSON, no alert, too large."""
    reasons = []
    for fields in malformed_entries(read_examples()[0]):
        with pytest.raises((ParseFault, KeyError)) as refused:
            parse_event(fields[b"event"])
        reasons.append(getattr(refused.value, "reason", "missing_event"))

    assert ["missing_event", "bad_json", "bad_event", "bad_event", "too_large"] == reasons


def test_a_renewed_alert_keeps_its_numbers_and_names_no_other() -> None:
    """New are its ID and its times; a uint256 keeps every digit; it neither replaces another alert nor expires."""
    example = {"alert_id": "old", "supersedes": "older", "expires_at": "2020-01-01T00:00:00Z", "value_raw": 2**256 - 1}

    alert = renewed(example, 7)

    assert ("demo-00007", 2**256 - 1) == (alert["alert_id"], alert["value_raw"])
    assert not {"supersedes", "expires_at"} & alert.keys()
    assert str(2**256 - 1).encode() in msgspec.json.encode(alert)
