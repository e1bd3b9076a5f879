"""Pages of records: what is found, what is shown of one, and that none of it is taken for anything but text."""

import html
import re
from urllib.parse import quote

import pytest

from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, RETRYING, SILENCED, WAITING
from tests.unit.web.site import Site
from trio_alerts.web import record_pages
from trio_alerts.web.timeline import timeline

HOSTILE = "</title></a></td><script>alert(1)</script><img src=x onerror=alert(1)>\"' \u202egnp.exe \u2066\x1b[2J"


async def page_of(site: Site, path: str) -> str:
    """Return a page that must be there."""
    answer = await site.visitor().get(path)
    assert 200 == answer.status_code, answer.text
    return answer.text


async def test_records_are_listed_with_what_is_wrong_and_how_many_there_are() -> None:
    """The newest is first; each state has its count."""
    site = Site()
    site.put(1, DELIVERED, title="Peg lost")
    site.put(2, FAILED, title="Oracle stale")
    page = await page_of(site, "/")

    assert page.index("Oracle stale") < page.index("Peg lost")
    assert '<b data-count="total">2</b>' in page
    assert '<b data-count="failed">1</b>' in page
    assert '<b data-count="waiting">0</b>' in page
    assert '<span class="why">no</span>' in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=failed", ["b"]),
        ("state=failed&state=delivered", ["a", "b"]),
        ("severity=critical", ["b"]),
        ("view=Lending&scope=aave", ["a"]),
        ("view=&scope=&severity=critical", ["b"]),
        ("alert-id=alert-1", ["a"]),
        ("alert_id=alert-1", ["a"]),
        ("rule-id=nothing", []),
        ("title=oracle", ["b"]),
        ("tx=0xAB", ["b"]),
        ("label=team%3Drisk", ["a"]),
        ("fingerprint=f-1", ["a"]),
        ("channel=webhook", ["a", "b", "c"]),
        ("since=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z", ["b"]),
    ],
)
async def test_filters_stand_in_the_url(query: str, found: list[str]) -> None:
    """Each narrows; what the form left empty does not; they are in the form again."""
    site = Site()
    at = "2026-01-{:02}T12:00:00Z".format
    fields: dict[str, object] = {"view": "Lending", "scope": "aave", "labels": {"team": "risk"}, "fingerprint": "f-1"}
    site.put(1, DELIVERED, title="a peg", severity="low", occurred_at=at(1), **fields)
    site.put(2, FAILED, title="b oracle", severity="critical", occurred_at=at(2), tx_hash="0xab", view="DEX")
    site.put(3, RETRYING, title="c bridge", severity="low", occurred_at=at(3), view="DEX")
    page = await page_of(site, f"/?{query}")

    assert found == [one for one in "abc" if f">{one} " in page]
    assert f"{len(found)} record" in page


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("state=fialed", "is not one of"),
        ("sate=failed", "did you mean state?"),
        ("since=yesterday", "is not a date or time"),
        ("label=team", "is not KEY=VALUE"),
        ("after=nonsense", "is not a cursor"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_not_ignored(query: str, says: str) -> None:
    """It would have shown everything, and nobody would have noticed."""
    answer = await Site().visitor().get(f"/?{query}")

    assert (400, True) == (answer.status_code, says in answer.text)


async def test_pages_are_turned_by_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page goes on behind the last record of this one, whatever came meanwhile; filters stay."""
    monkeypatch.setattr(record_pages, "SHOWN", 2)
    site = Site()
    for number in range(1, 6):
        site.put(number, FAILED, title=f"alert {number}.")
    first = await page_of(site, "/?state=failed")
    site.put(6, FAILED, title="alert 6.")
    second = await page_of(site, _next(first))
    last = await page_of(site, _next(second))

    assert "/?state=failed&after=" in _next(first)
    assert [3, 2] == [number for number in range(6, 0, -1) if f"alert {number}." in second]
    assert "Older" not in last
    assert "alert 1." in last


def _next(page: str) -> str:
    """Return where the link to the next page leads."""
    (address,) = re.findall(r'href="([^"]*)" rel="next"', page)
    return html.unescape(address)


async def test_many_are_not_counted_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes a second in a large file, and nobody needs the last digits."""
    monkeypatch.setattr(record_pages, "COUNTED", 2)
    site = Site()
    for number in range(1, 4):
        site.put(number, FAILED)

    assert "2 or more records match" in await page_of(site, "/?state=failed")


async def test_what_is_not_shown_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without a filter says how many records there are by their states, on every page."""
    monkeypatch.setattr(record_pages, "SHOWN", 2)
    site = Site()
    for number in range(1, 6):
        site.put(number, FAILED)
    await page_of(site, _next(await page_of(site, "/")))
    assert [] == site.store.called("count")

    await page_of(site, "/?state=failed")
    assert 1 == len(site.store.called("count"))


async def test_nothing_found_says_so() -> None:
    """An empty store and a filter without a match are different things."""
    site = Site()

    assert "There is no record yet" in await page_of(site, "/")
    assert "Nothing matches" in await page_of(site, "/?state=failed")


async def test_a_record_has_its_whole_history() -> None:
    """Every attempt of every channel, what was answered, what is planned, the document, and what is like it."""
    site = Site()
    site.put(1, DELIVERED, title="The first", fingerprint="f")
    site.put(2, RETRYING, title="The second", fingerprint="f", description="one\ntwo", details={"factor": 1.02})
    page = await page_of(site, "/records/2-0")

    for text in (
        "one\ntwo",
        "busy",
        "status 503",
        "next attempt",
        "&#34;factor&#34;: 1.02",
        "raw JSON",
        "read from the",
    ):
        assert text in page
    assert "The first" in page[page.index("Same fingerprint") :]


@pytest.mark.parametrize("path", ["/", "/records/1-0"])
async def test_hostile_text_is_text(path: str) -> None:
    """What an alert brings opens no tag and no attribute, and shows what it would hide or turn around."""
    site = Site()
    site.put(
        1,
        FAILED,
        **dict.fromkeys(("title", "view", "scope", "rule_id", "description", "fingerprint", "source"), HOSTILE),
        labels={HOSTILE: HOSTILE},
        details={HOSTILE: HOSTILE},
    )
    page = await page_of(site, path)

    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\\u202egnp.exe" in page
    assert not {"\u202e", "\u2066", "\x1b"} & set(page)


async def test_only_web_links_are_links() -> None:
    """The browser is told to say nothing of where it came from; what is not http(s) is text."""
    site = Site()
    links = ["https://scan.example/tx?a=1&b=2", "javascript:alert(1)", "data:text/html,x", "//evil.example", "HTTP:x"]
    site.put(1, FAILED, links=links)
    page = await page_of(site, "/records/1-0")

    assert '<a href="https://scan.example/tx?a=1&amp;b=2" rel="noopener noreferrer"' in page
    for other in links[1:]:
        assert f">{other}<" in page
        assert f'href="{other}' not in page


async def test_a_large_alert_is_shown_whole() -> None:
    """256 KiB of details are what an alert may have."""
    site = Site()
    site.put(1, FAILED, details={"text": "x" * 250_000})

    assert "x" * 250_000 in await page_of(site, "/records/1-0")


async def test_a_record_of_a_newer_version_is_shown_and_left_alone() -> None:
    """There is no button, and the page says why."""
    site = Site()
    site.put(1, FAILED, title="Peg lost")
    site.store.unknown_in = lambda _: "delivery.state 'paused'"
    page = await page_of(site, "/records/1-0")

    assert "Peg lost" in page
    assert "A newer version of the program wrote this record" in page
    assert "delivery.state &#39;paused&#39;" in page
    assert "Redeliver…" not in page


@pytest.mark.parametrize("record_id", ["9-0", "nonsense", "x" * 600, "a/b/c", "%00", "../../etc/passwd", "1-0/x"])
async def test_a_record_that_is_not_there(record_id: str) -> None:
    """Is no page, and no fault."""
    assert 404 == (await Site().visitor().get(f"/records/{quote(record_id, safe='%')}")).status_code


async def test_a_record_of_a_named_stream_has_an_address() -> None:
    """With several streams, IDs have a bar, and a stream's name may have anything."""
    site = Site()
    odd = changed_id(site, "a/b ü?#|1-0")

    assert "Peg lost" in await page_of(site, f"/records/{quote(odd, safe='')}")
    assert f'href="/records/{quote(odd, safe="")}"' in await page_of(site, "/")


@pytest.mark.parametrize(
    ("delivery", "buttons"),
    [
        (FAILED, ["Redeliver", "Silence"]),
        (RETRYING, ["Redeliver", "Silence"]),
        (IN_DOUBT, ["Redeliver", "Resolve", "Silence"]),
        (SILENCED, ["Redeliver", "Silence"]),
        (WAITING, ["Redeliver", "Silence"]),
        (DELIVERED, ["Silence"]),
    ],
    ids=["failed", "retrying", "in doubt", "silenced", "waiting", "delivered"],
)
async def test_there_is_a_button_for_what_can_be_done(delivery: object, buttons: list[str]) -> None:
    """And none for what would only be refused, nor any in a read-only console."""
    site, shut = Site(), Site(read_only=True)
    for each in (site, shut):
        each.put(1, delivery)  # type: ignore[arg-type]

    page = await page_of(site, "/records/1-0")
    assert buttons == [one for one in ("Redeliver", "Resolve", "Silence") if f"{one}…" in page]
    assert "…</a>" not in await page_of(shut, "/records/1-0")


@pytest.mark.parametrize("path", ["/", "/records/1-0"])
async def test_an_outage_of_the_store_is_said(path: str) -> None:
    """With 503, and without a traceback."""
    site = Site()
    site.put(1, FAILED)
    site.store.decide = lambda _: "down"
    answer = await site.visitor().get(path)

    assert 503 == answer.status_code
    assert "the store is down" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/silences", "/silences/new", "/quarantine", "/channels", "/records/1-0/redeliver"])
async def test_without_redis_records_are_read_all_the_same(path: str) -> None:
    """A page that needs Redis says so; the others do not need it, and it may come back."""
    site = Site(redis=False)
    site.put(1, FAILED)
    statuses = [(await site.visitor().get(one)).status_code for one in (path, "/", "/records/1-0")]
    site.reach_redis()

    assert [200 if path == "/silences/new" else 503, 200, 200] == statuses
    assert 200 == (await site.visitor().get(path)).status_code


async def test_a_bug_ends_one_request_and_is_logged(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """The page says nothing of what it was; the log does; the next request is answered."""
    site = Site()

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("S3CR3T")

    monkeypatch.setattr(site.store, "counts", broken)
    answer = await site.visitor().get("/")

    assert 500 == answer.status_code
    assert "S3CR3T" not in answer.text
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert any("ZeroDivisionError" in line for line in lines)
    assert 404 == (await site.visitor().get("/records/9-0")).status_code


def changed_id(site: Site, record_id: str) -> str:
    """Put a record with an ID of our own; return it."""
    site.put(1, FAILED, title="Peg lost")
    stored = site.store.records.pop("1-0")
    site.store.put(type(stored.record)(record_id, stored.record.body, stored.record.delivery))
    return record_id


@pytest.mark.parametrize("time", ["2026-11-16T08:00:00", "yesterday", 7, None])
def test_a_time_that_somebody_wrote_by_hand_is_left_out_of_the_timeline(time: object) -> None:
    """One without a zone has no place among the others; the rest is shown all the same."""
    steps = timeline({"occurred_at": time, "ingested_at": "2026-11-16T08:00:00Z"}, FAILED)

    assert "read from the stream" in [step.what for step in steps]
    assert "the alert occurred" not in [step.what for step in steps]
