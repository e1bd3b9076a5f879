"""The API on fake backends: what it answers, what it refuses, and who changes what."""

import datetime as dt
from typing import Any

import httpx
import pytest

from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, RETRYING, SILENCED
from tests.unit.web.site import TOKEN, Site
from trio_alerts.delivery import Delivery
from trio_alerts.operations.filters import FILTERS
from trio_alerts.transitions import quarantined
from trio_alerts.web.api.api import ENDPOINTS, PREFIX

BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\0'\"\n%{}"


@pytest.fixture
def site() -> Site:
    return Site(token=TOKEN)


async def ask(site: Site, method: str, path: str, **request: Any) -> httpx.Response:
    """Ask with the token, and see that what is wrong is a problem as RFC 9457 has it."""
    request["headers"] = BEARER | request.get("headers", {})
    answer = await site.visitor().request(method, f"{PREFIX}{path}", **request)
    if answer.is_error:
        problem = answer.json()
        assert "application/problem+json" == answer.headers["content-type"]
        assert answer.status_code == problem["status"]
        assert problem["instance"].startswith(PREFIX)
        assert problem["detail"]
    return answer


async def test_records_come_page_by_page(site: Site) -> None:
    """The newest first, each once; all that match are counted, and the last page says that it is the last."""
    for number in range(1, 6):
        site.put(number, FAILED)
    seen: list[list[str]] = []
    after: dict[str, str] | None = {}
    while after is not None and len(seen) < 5:
        page = (await ask(site, "GET", "/records", params={"limit": 2, **after})).json()
        seen.append([record["record_id"] for record in page["records"]])
        assert 5 == page["matching"]
        after = {"after": page["next"]} if page["next"] is not None else None

    assert [["5-0", "4-0"], ["3-0", "2-0"], ["1-0"]] == seen


async def test_a_page_of_large_records_ends_early(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for, an answer stays small; the next page goes on behind it."""
    monkeypatch.setattr("trio_alerts.web.api.records.MOST_BYTES", 2000)
    monkeypatch.setattr("trio_alerts.operations.records.BOUNDED_PAGE", 2)
    for number in range(1, 6):
        site.put(number, FAILED, title="x" * 1000)
    first = (await ask(site, "GET", "/records", params={"limit": 500})).json()
    assert ["5-0", "4-0"] == [record["record_id"] for record in first["records"]]
    rest = (await ask(site, "GET", "/records", params={"after": first["next"]})).json()
    assert "3-0" == rest["records"][0]["record_id"]


async def test_filters_are_those_of_list(site: Site) -> None:
    """By the names of its options; values of one are alternatives, and all must hold."""
    site.put(1, FAILED, view="a")
    site.put(2, RETRYING, view="a")
    site.put(3, DELIVERED, view="a")
    site.put(4, FAILED, view="b")
    query = [("view", "a"), ("state", "failed"), ("state", "retrying"), ("since", "2026-01-01T00:00:00Z")]
    page = (await ask(site, "GET", "/records", params=query)).json()
    assert ["2-0", "1-0"] == [record["record_id"] for record in page["records"]]

    described = (await ask(site, "GET", "/openapi.json")).json()["paths"]["/records"]["get"]["parameters"]
    assert {one.name for one in FILTERS} < {one["name"] for one in described}


async def test_a_record_is_what_show_prints(site: Site) -> None:
    """Byte for byte the same document, as it is now."""
    record_id = site.put(1, IN_DOUBT, title=HOSTILE, value_usd=1.50)
    answer = await ask(site, "GET", f"/records/{record_id}")
    assert site.store.records[record_id].record.to_json() == answer.content
    assert HOSTILE == answer.json()["title"]


@pytest.mark.parametrize("stream", ["a/b", "a|b", "ä ö", "a%2Fb", "a?b#c", "..", "redeliver/"])
async def test_ids_may_hold_any_character(stream: str) -> None:
    """As one segment of the address, percent-encoded."""
    site = Site(token=TOKEN)
    stored = site.store.records[site.put(1, FAILED)]
    record_id = f"{stream}|1-0"
    site.store.put(type(stored.record)(record_id, stored.record.body, FAILED))
    quoted = "".join(f"%{byte:02X}" for byte in record_id.encode())

    assert 200 == (await ask(site, "GET", f"/records/{quoted}")).status_code
    made_due = await ask(site, "POST", f"/records/{quoted}/redeliver")
    assert record_id == made_due.json()["record_id"]


@pytest.mark.parametrize("name", ["_search", "1-0%0A", "%2E%2E", "1-18446744073709551616", "a%7C", "01-0"])
async def test_no_store_is_asked_for_what_is_no_id(site: Site, name: str) -> None:
    """What such an address means to a store behind HTTP need not be found out."""
    assert 404 == (await ask(site, "GET", f"/records/{name}")).status_code
    assert 404 == (await ask(site, "POST", f"/records/{name}/redeliver")).status_code
    assert [] == site.store.calls


async def test_what_is_undelivered_is_made_due(site: Site, lines: list[str]) -> None:
    """A dry run says so, and changes nothing; then it is done, and the log says by whom."""
    record_id = site.put(1, FAILED)
    due = {"record_id": record_id, "state": "retrying", "due": ["webhook"]}

    assert (
        due | {"dry_run": True}
        == (await ask(site, "POST", f"/records/{record_id}/redeliver", json={"dry_run": True})).json()
    )
    assert ["failed"] == site.backends.states
    assert [] == lines
    assert due | {"dry_run": False} == (await ask(site, "POST", f"/records/{record_id}/redeliver")).json()
    assert ["retrying"] == site.backends.states
    assert [f"INFO console: token made record {record_id} due again through webhook"] == lines


async def test_what_is_in_doubt_is_settled(site: Site, lines: list[str]) -> None:
    """By whoever knows; the record keeps their name."""
    record_id = site.put(1, IN_DOUBT)
    wanted = {"resolution": "delivered"}

    await ask(site, "POST", f"/records/{record_id}/resolve", json=wanted | {"dry_run": True})
    assert ["in_doubt"] == site.backends.states
    answer = await ask(site, "POST", f"/records/{record_id}/resolve", json=wanted)
    assert {"record_id": record_id, "state": "delivered", "dry_run": False} == answer.json()
    assert "token" in (site.store[record_id].reason or "")
    assert [f"INFO console: token settled record {record_id} as delivered"] == lines


@pytest.mark.parametrize(
    ("delivery", "path", "why"),
    [
        (DELIVERED, "redeliver", "left alone: it is delivered"),
        (SILENCED, "redeliver", "silence:1a2b suppressed it"),
        (FAILED, "resolve", "no channel of it is in doubt"),
    ],
)
async def test_what_is_left_alone_is_a_conflict(site: Site, delivery: Delivery, path: str, why: str) -> None:
    """With the reason that the command gives."""
    record_id = site.put(1, delivery)
    body = {"resolution": "failed"} if path == "resolve" else {}
    answer = await ask(site, "POST", f"/records/{record_id}/{path}", json=body)
    assert 409 == answer.status_code
    assert "urn:trio-alerts:problem:left-alone" == answer.json()["type"]
    assert why in answer.json()["detail"]


async def test_silences_are_set_listed_tried_and_ended(site: Site, lines: list[str]) -> None:
    """Each change is logged with who made it; one that is over cannot be ended again."""
    site.put(1, DELIVERED, view="Lending", occurred_at=dt.datetime.now(dt.UTC).isoformat())
    wanted = {"matchers": ["view = Lending"]}
    preview = (await ask(site, "POST", "/silences/preview", json=wanted)).json()
    assert (1, 1, ["1-0"]) == (preview["seen"], preview["matching"], [one["record_id"] for one in preview["newest"]])

    made = await ask(site, "POST", "/silences", json=wanted | {"for": "2h", "why": HOSTILE})
    silence = made.json()
    assert (201, "active", HOSTILE, "token") == (made.status_code, silence["state"], silence["why"], silence["by"])
    assert [silence] == (await ask(site, "GET", "/silences")).json()["silences"]
    ended = (await ask(site, "DELETE", f"/silences/{silence['id']}")).json()
    assert ("ended", "token") == (ended["state"], ended["ended_by"])
    assert [] == (await ask(site, "GET", "/silences")).json()["silences"]
    assert [ended] == (await ask(site, "GET", "/silences?all=true")).json()["silences"]
    assert 409 == (await ask(site, "DELETE", f"/silences/{silence['id']}")).status_code
    assert [f"set silence {silence['id']}", f"ended silence {silence['id']}"] == [
        " ".join(line.split()[3:6]) for line in lines
    ]


async def test_what_a_silence_kept_back_is_made_due(site: Site, lines: list[str]) -> None:
    """A dry run counts it, and changes nothing; then it is done, and the log says by whom."""
    site.put(1, SILENCED)
    tried = await ask(site, "POST", "/silences/1a2b/redeliver", json={"dry_run": True})
    assert ({"due": 1, "left_alone": 0, "dry_run": True}, ["suppressed"]) == (tried.json(), site.backends.states)
    assert [] == lines
    done = await ask(site, "POST", "/silences/1a2b/redeliver")
    assert ({"due": 1, "left_alone": 0, "dry_run": False}, ["retrying"]) == (done.json(), site.backends.states)
    assert ["INFO console: token made due what silence 1a2b kept back (1)"] == lines


JSON = {"Content-Type": "application/json"}
SILENCE = {"matchers": ["view = a"], "for": "2h", "why": "w"}
DEEP = b'{"matchers":' + b"[" * 200_000


@pytest.mark.parametrize(
    ("method", "path", "request_parts", "status", "kind", "wrong"),
    [
        ("GET", "/records?limit=0&after=x&state=lost&mood=bad&since=a&since=b", {}, 400, "wrong-parameters",
         ["limit", "after", "state", "mood", "since"]),
        ("GET", "/records?limit=501", {}, 400, "wrong-parameters", ["limit"]),
        ("GET", "/records?limit=%D9%A3", {}, 400, "wrong-parameters", ["limit"]),
        ("GET", "/records/1-0?x=", {}, 400, "wrong-parameters", ["x"]),
        ("GET", "/silences?all=yes", {}, 400, "wrong-parameters", ["all"]),
        ("GET", "/records/7-0", {}, 404, "not-found", []),
        ("GET", "/records/", {}, 404, "not-found", []),
        ("GET", "/records/%FF", {}, 404, "not-found", []),
        ("GET", "/records/1-0%0A", {}, 404, "not-found", []),
        ("POST", "/records/7-0/redeliver", {}, 404, "not-found", []),
        ("DELETE", "/silences/ff", {}, 404, "not-found", []),
        ("GET", "/", {}, 404, "not-found", []),
        ("GET", "/nothing", {}, 404, "not-found", []),
        ("DELETE", "/records/1-0", {}, 405, "method-not-allowed", []),
        ("POST", "/records/1-0/redeliver", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415,
         "unsupported-media-type", []),
        ("POST", "/records/1-0/redeliver", {"content": b"{", "headers": JSON}, 400, "not-json", []),
        ("POST", "/records/1-0/redeliver", {"content": b'{"through":"\xff"}', "headers": JSON}, 422, "wrong-body",
         ["through"]),
        ("POST", "/records/1-0/redeliver", {"content": b"[]", "headers": JSON}, 422, "wrong-body", []),
        ("POST", "/records/1-0/redeliver", {"json": {"through": "pagr", "dry_run": 1, "x": 2}}, 422, "wrong-body",
         ["x", "dry_run"]),
        ("POST", "/records/1-0/redeliver", {"json": {"through": "pagr"}}, 422, "wrong-body", ["through"]),
        ("POST", "/records/1-0/resolve", {}, 422, "wrong-body", ["resolution"]),
        ("POST", "/silences", {"json": SILENCE | {"matchers": ["view = a", "x", "y"]}}, 422, "wrong-body",
         ["matchers[1]", "matchers[2]"]),
        ("POST", "/silences", {"json": SILENCE | {"matchers": ["view = a", "view = b"]}}, 422, "wrong-body",
            ["matchers"]),
        ("POST", "/silences", {"json": SILENCE | {"all_alerts": True}}, 422, "wrong-body", ["matchers"]),
        ("POST", "/silences", {"json": SILENCE | {"for": "2 hours"}}, 422, "wrong-body", ["for"]),
        ("POST", "/silences", {"json": SILENCE | {"until": "2030-01-01T00:00:00Z"}}, 422, "wrong-body", ["until"]),
        ("POST", "/silences", {"json": SILENCE | {"why": " "}}, 422, "wrong-body", ["why"]),
        ("POST", "/silences", {"content": b'{"why":"\\udc00 x"}', "headers": JSON}, 400, "not-json", []),
        ("POST", "/silences", {"content": DEEP, "headers": JSON}, 400, "not-json", []),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_at_once(
    site: Site, method: str, path: str, request_parts: dict[str, Any], status: int, kind: str, wrong: list[str]
) -> None:
    """Each part that is wrong has its name and a reason, and nothing is changed."""
    site.put(1, FAILED)
    answer = await ask(site, method, path, **request_parts)
    problem = answer.json()
    assert (status, f"urn:trio-alerts:problem:{kind}") == (answer.status_code, problem["type"])
    assert sorted(wrong) == sorted(one["name"] for one in problem["errors"])
    assert ["failed"] == site.backends.states


async def test_an_outage_of_the_store_is_said(site: Site) -> None:
    """With 503, and when to ask again."""
    for method, path in (("search", "/records"), ("get", "/records/1-0"), ("search", "/silences/preview")):
        site.store.fail_next(method, "down")
        body = {"json": {"all_alerts": True}} if path == "/silences/preview" else {}
        answer = await ask(site, "POST" if body else "GET", path, **body)
        assert (503, "2") == (answer.status_code, answer.headers["retry-after"])


async def test_figures_that_nobody_has_are_an_outage() -> None:
    """With one backend away, `/stats` says what the other knows; with both away there is nothing to say."""
    site = Site(token=TOKEN, redis=False)
    site.put(1, FAILED)
    stats = (await ask(site, "GET", "/stats")).json()
    assert (["redis"], {"failed": 1}, None) == (stats["missing"], stats["states"], stats["pending"])
    site.store.fail_next("counts", "down")
    assert 503 == (await ask(site, "GET", "/stats")).status_code


async def test_an_outage_of_redis_leaves_the_records(site: Site) -> None:
    """What lies in Redis, and every change, is answered with 503."""
    site = Site(token=TOKEN, redis=False)
    record_id = site.put(1, FAILED)
    assert 200 == (await ask(site, "GET", "/records")).status_code
    for method, path in (
        ("GET", "/silences"),
        ("GET", "/quarantine"),
        ("GET", "/quarantine/1-0"),
        ("DELETE", "/quarantine/1-0"),
        ("POST", f"/records/{record_id}/redeliver"),
    ):
        assert 503 == (await ask(site, method, path)).status_code
    assert ["failed"] == site.backends.states


async def test_a_record_of_a_newer_version_is_left_alone(site: Site) -> None:
    """It is listed as unknown; asked for, this version says why it cannot show it."""
    record_id = site.put(1, FAILED)
    site.store.unknown_in = lambda _: "delivery.state 'paused'"
    assert "unknown" == (await ask(site, "GET", "/records")).json()["records"][0]["delivery"]["state"]
    answer = await ask(site, "GET", f"/records/{record_id}")
    assert 409 == answer.status_code
    assert "a newer version wrote record" in answer.json()["detail"]


async def test_a_read_only_console_changes_nothing() -> None:
    """Whoever asks; reading goes on."""
    site = Site(token=TOKEN, read_only=True)
    record_id = site.put(1, FAILED)
    assert 200 == (await ask(site, "GET", f"/records/{record_id}")).status_code
    for method, path in {(one.method, one.path) for one in ENDPOINTS if one.method != "GET"}:
        named = path.replace("{record_id}", record_id)
        assert 403 == (await ask(site, method, named)).status_code
    assert ["failed"] == site.backends.states


async def test_without_the_token_nothing_is_said(site: Site) -> None:
    """Not even what there is: 401 as a problem, with the scheme."""
    record_id = site.put(1, FAILED, title="Secret of the desk")
    for path in ("/records", f"/records/{record_id}", "/openapi.json", "/nothing"):
        answer = await site.visitor().get(f"{PREFIX}{path}")
        assert (401, "Bearer") == (answer.status_code, answer.headers["www-authenticate"])
        assert "application/problem+json" == answer.headers["content-type"]
        assert "Secret" not in answer.text


async def test_a_session_needs_the_token_of_a_form(site: Site) -> None:
    """A browser sends its cookie by itself, so a change needs a proof that a page of ours made it."""
    record_id = site.put(1, FAILED)
    browser = site.visitor()
    await browser.sign_in()
    address = f"{PREFIX}/records/{record_id}/redeliver"

    refused = await browser.post(address)
    assert (403, ["failed"]) == (refused.status_code, site.backends.states)
    assert "application/problem+json" == refused.headers["content-type"]
    assert 200 == (await browser.post(address, headers={"X-CSRF-Token": await browser.form_token("/")})).status_code


async def test_the_record_of_a_dead_letter_is_as_described(site: Site) -> None:
    """It has no alert in it."""
    stored = site.store.records[site.put(1, FAILED)].record
    site.store.put(type(stored)("2-0", b'{"record_id":"2-0"}', quarantined(FAILED, "bad_json")))
    assert {"record_id", "delivered", "delivery"} == (await ask(site, "GET", "/records/2-0")).json().keys()
