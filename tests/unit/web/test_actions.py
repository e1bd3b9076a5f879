"""What pages change: each only after a preview and a confirmation, in somebody's name, and once."""

import datetime as dt

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, RETRYING, SILENCED, WAITING
from tests.unit.web.site import PROXIES, Browser, Site, fields_of
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.web.feed import LOOK_EVERY_S, Feed

CHANNELS = tuple(ChannelSettings(name=name) for name in ("webhook", "pager"))
PREVIEW = "/silences/new?preview=1&lasts=2h&why=oracle+moves&matchers="


async def test_a_redelivery_is_previewed_and_then_confirmed(lines: list[str]) -> None:
    """The preview changes nothing; the confirmation makes the record due, leads back to it, and is logged."""
    site = Site()
    record_id = site.put(1, FAILED)
    browser = site.visitor()
    preview = await browser.get(f"/records/{record_id}/redeliver")
    before = site.store[record_id]
    answer = await browser.confirm(f"/records/{record_id}/redeliver")

    assert "through <b>webhook</b>" in preview.text
    assert FAILED == before
    assert "retrying" == site.store[record_id].state
    assert (303, f"/records/{record_id}?done=redelivered") == (answer.status_code, answer.headers["location"])
    assert "due now" in (await browser.get(answer.headers["location"])).text
    assert [f"INFO console: loopback made record {record_id} due again through webhook"] == lines


@pytest.mark.parametrize("delivery", [DELIVERED, SILENCED], ids=["delivered", "silenced"])
async def test_what_cannot_be_redelivered_is_left_alone(delivery: object) -> None:
    """The preview has no button, and a confirmation that comes all the same changes nothing."""
    site = Site()
    record_id = site.put(1, delivery)  # type: ignore[arg-type]
    browser = site.visitor()
    preview = await browser.get(f"/records/{record_id}/redeliver")
    answer = await browser.confirm(f"/records/{record_id}/redeliver")

    assert "is left alone" in preview.text
    assert "<button>Redeliver" not in preview.text
    assert 409 == answer.status_code
    assert delivery == site.store[record_id]


async def test_a_redelivery_goes_through_another_channel(lines: list[str]) -> None:
    """It is chosen among those of the settings and previewed; then it alone is due, and stands in for what failed."""
    site = Site(channels=CHANNELS)
    record_id = site.put(1, FAILED)
    browser = site.visitor()
    address = f"/records/{record_id}/redeliver"
    offered, preview = await browser.get(address), await browser.get(f"{address}?through=pager")
    before = site.store[record_id]
    answer = await browser.confirm(f"{address}?through=pager")

    assert '<option value="pager">' in offered.text
    assert "through <b>pager</b> alone" in preview.text
    assert "stands in for webhook" in preview.text
    assert (FAILED, 303) == (before, answer.status_code)
    assert {"webhook": "failed", "pager": "retrying"} == {one.name: one.state for one in site.store[record_id].channels}
    assert [f"INFO console: loopback made record {record_id} due again through pager"] == lines


async def test_what_waits_can_go_through_another_channel() -> None:
    """The record's page leads there; by itself it would be left alone."""
    site = Site(channels=CHANNELS)
    record_id = site.put(1, WAITING)
    browser = site.visitor()
    address = f"/records/{record_id}/redeliver"

    assert address in (await browser.get(f"/records/{record_id}")).text
    assert "is left alone" in (await browser.get(address)).text
    assert 303 == (await browser.confirm(f"{address}?through=pager")).status_code


async def test_a_channel_that_is_none_is_refused() -> None:
    """Hostile text is text; nothing is changed."""
    site = Site(channels=CHANNELS)
    record_id = site.put(1, FAILED)
    browser = site.visitor()
    address = f"/records/{record_id}/redeliver"
    token = await browser.form_token(address)
    answers = [
        await browser.get(address, params={"through": "<b>\u202e"}),
        await browser.post(address, data={"through": "<b>\u202e", "csrf_token": token}),
    ]

    assert [400, 400] == [one.status_code for one in answers]
    assert all("&lt;b&gt;\\u202e" in one.text for one in answers)
    assert FAILED == site.store[record_id]


async def test_who_may_have_it_already_is_said() -> None:
    """Before what is in doubt is sent once more."""
    site = Site()
    page = await site.visitor().get(f"/records/{site.put(1, IN_DOUBT)}/redeliver")

    assert "webhook may have it already" in page.text


async def test_what_a_silence_kept_back_is_sent(autojump_clock: MockClock, lines: list[str]) -> None:
    """Previewed, then confirmed; through the channels that it suppressed, and it is logged who did it."""
    site = Site(**PROXIES)
    record_id = site.put(1, SILENCED, title="<b>Peg</b>")
    browser = site.visitor("10.2.3.4", X_User="ann")
    record = await browser.get(f"/records/{record_id}")
    preview = await browser.get("/silences/1a2b/send")
    before = site.store[record_id]
    answer = await browser.confirm("/silences/1a2b/send")
    again = await browser.get("/silences/1a2b/send")

    assert "/silences/1a2b/send" in record.text
    assert "kept back <b>1</b> alert." in preview.text
    assert "&lt;b&gt;Peg" in preview.text
    assert SILENCED == before
    assert "1 alert is due now" in answer.text
    assert "retrying" == site.store[record_id].state
    assert "No record names it" in again.text
    assert ["INFO console: ann made due what silence 1a2b kept back (1)"] == lines


async def test_what_an_active_silence_keeps_back_is_not_sent() -> None:
    """It would only be suppressed again: there is no button, and a confirmation changes nothing."""
    site = Site()
    browser = site.visitor()
    silence_id, token = await set_silence(site, browser)
    record_id = site.put(1, replace(SILENCED, suppressed_by=f"silence:{silence_id}"))
    preview = await browser.get(f"/silences/{silence_id}/send")
    answer = await browser.post(f"/silences/{silence_id}/send", data={"csrf_token": token})

    assert "still active" in preview.text
    assert "<button>Send" not in preview.text
    assert 409 == answer.status_code
    assert "suppressed" == site.store[record_id].state


@pytest.mark.parametrize("resolution", ["delivered", "failed"])
async def test_a_doubt_is_settled_in_the_visitors_name(resolution: str, lines: list[str]) -> None:
    """The record keeps who it was."""
    site = Site(**PROXIES)
    record_id = site.put(1, IN_DOUBT)
    browser = site.visitor("10.2.3.4", X_User="ann")
    answer = await browser.confirm(f"/records/{record_id}/resolve", resolution=resolution)

    assert 303 == answer.status_code
    assert resolution == site.store[record_id].state
    assert "ann" in str(site.store[record_id].reason)
    assert [f"INFO console: ann settled record {record_id} as {resolution}"] == lines


async def test_a_doubt_is_settled_as_one_of_two() -> None:
    """Anything else is refused; so is what is not in doubt."""
    site = Site()
    doubtful, retrying = site.put(1, IN_DOUBT), site.put(2, RETRYING)
    browser = site.visitor()

    assert 400 == (await browser.confirm(f"/records/{doubtful}/resolve", resolution="maybe")).status_code
    assert 409 == (await browser.confirm(f"/records/{retrying}/resolve", resolution="failed")).status_code
    assert [IN_DOUBT, RETRYING] == [site.store[doubtful], site.store[retrying]]


async def test_a_silence_is_previewed_on_what_came_and_then_set(lines: list[str]) -> None:
    """The preview counts and sets nothing; the confirmation sets what was previewed, for as long as it was said."""
    site = Site()
    now = dt.datetime.now(dt.UTC).isoformat()
    site.put(1, DELIVERED, view="Lending", occurred_at=now, title="<b>Peg</b>")
    site.put(2, DELIVERED, view="DEX", occurred_at=now)
    browser = site.visitor()
    preview = await browser.get(PREVIEW + "view+%3D+Lending")
    before = await site.silences.latest()
    form = {"matchers": "view = Lending", "lasts": "2h", "why": "oracle moves"}
    answer = await browser.post("/silences/new", data=form | {"csrf_token": fields_of(preview.text)["csrf_token"]})
    after = await site.silences.latest()

    assert "Of 2 alerts" in preview.text
    assert "kept back <b>1</b>: 1 " in preview.text
    assert "&lt;b&gt;Peg" in preview.text
    assert (False, True) == (bool(before and before.silences), bool(after and after.silences))
    assert after is not None
    (silence,) = after.silences
    assert (("view = Lending",), "oracle moves", "loopback") == (silence.matchers, silence.why, silence.by)
    assert dt.timedelta(hours=2) == silence.until - silence.since
    assert "/silences?done=added" == answer.headers["location"]
    assert [f"INFO console: loopback set silence {silence.id}: view = Lending, 2h"] == lines


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"matchers": ""}, "say which alerts"),
        ({"matchers": "view = a", "all_alerts": "1"}, "say which alerts"),
        ({"matchers": "mood = bad"}, "mood"),
        ({"matchers": "view = a", "why": " "}, "say why"),
        ({"matchers": "view = a", "lasts": "soon"}, "is not a duration"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_not_set(fields: dict[str, str], says: str) -> None:
    """Neither previewed nor set: the form comes back with what was in it, and says what is wrong."""
    site = Site()
    browser = site.visitor()
    given = {"matchers": "", "lasts": "2h", "why": "planned"} | fields
    token = await browser.form_token("/silences/new")
    previewed = await browser.get("/silences/new", params=given | {"preview": "1"})
    sent = await browser.post("/silences/new", data=given | {"csrf_token": token})
    found = await site.silences.latest()

    assert [400, 400] == [previewed.status_code, sent.status_code]
    assert says in previewed.text
    assert given["matchers"] in previewed.text
    assert not (found and found.silences)


async def test_a_silence_for_alerts_like_one_quotes_what_they_say() -> None:
    """Wildcards and quotes in an alert are no wildcards and no quotes in the matcher."""
    site = Site()
    record_id = site.put(1, FAILED, view='a "b" *', scope="s")
    page = (await site.visitor().get(f"/silences/new?record={record_id}")).text

    assert "view = &#34;a \\&#34;b\\&#34; \\*&#34;" in page
    assert "scope = &#34;s&#34;" in page


async def test_a_silence_is_ended_after_a_confirmation(lines: list[str]) -> None:
    """By the visitor, at once; one that is over cannot be ended again."""
    site = Site()
    browser = site.visitor()
    silence_id, token = await set_silence(site, browser)
    answer = await browser.confirm(f"/silences/{silence_id}/end")
    again = await browser.post(f"/silences/{silence_id}/end", data={"csrf_token": token})
    shown = [(await browser.get(path)).text for path in ("/silences", "/silences?all")]

    assert [303, 409] == [answer.status_code, again.status_code]
    assert [False, True] == [silence_id in page for page in shown]
    assert "every alert" in shown[1]
    assert "ended by loopback" in shown[1]
    assert f"INFO console: loopback ended silence {silence_id}" == lines[-1]
    assert 404 == (await browser.get(f"/silences/{silence_id}/end")).status_code


async def test_dead_letters_are_listed_and_shown() -> None:
    """By reason, page by page; a payload is text, laid out if it is JSON."""
    site = Site()
    site.letters.put(1, payload=b'{"title":"<script>alert(1)</script>"}')
    site.letters.put(2, reason="id_reused", error="\u202eother")
    browser = site.visitor()
    listed, narrowed = [(await browser.get(f"/quarantine{query}")).text for query in ("", "?reason=id_reused")]
    shown = (await browser.get("/quarantine/1-0")).text

    assert listed.index("bad_json") < listed.index("id_reused")
    assert "\\u202eother" in listed
    assert "bad_json" not in narrowed
    assert "{\n  &#34;title&#34;: &#34;&lt;script&gt;" in shown
    assert 404 == (await browser.get("/quarantine/3-0")).status_code
    assert 400 == (await browser.get("/quarantine/nonsense")).status_code


@pytest.mark.parametrize("as_new", [False, True])
async def test_a_dead_letter_is_replayed_after_a_confirmation(as_new: bool, lines: list[str]) -> None:
    """Once; as a new alert only if that is ticked."""
    site = Site()
    dead_id = site.letters.put(1)
    browser = site.visitor()
    asked = await browser.get(f"/quarantine/{dead_id}/replay")
    before = list(site.letters.replayed)
    answer = await browser.confirm(f"/quarantine/{dead_id}/replay", **({"as_new": "1"} if as_new else {}))
    again = await browser.post(f"/quarantine/{dead_id}/replay", data=fields_of(asked.text))

    assert [303, 404] == [answer.status_code, again.status_code]
    assert ([], [(dead_id, as_new)]) == (before, site.letters.replayed)
    assert [f"INFO console: loopback put dead letter {dead_id} back into AlertStream as 99-0"] == lines


async def test_a_dead_letter_is_dropped_after_a_confirmation(lines: list[str]) -> None:
    """In the visitor's name; to look at the page drops nothing."""
    site = Site()
    dead_id = site.letters.put(1)
    browser = site.visitor()
    asked = await browser.get(f"/quarantine/{dead_id}/drop")
    there = dict(site.letters.there)
    answer = await browser.confirm(f"/quarantine/{dead_id}/drop")
    again = await browser.post(f"/quarantine/{dead_id}/drop", data=fields_of(asked.text))

    assert [303, 404] == [answer.status_code, again.status_code]
    assert {dead_id} == there.keys()
    assert [(dead_id, "loopback")] == site.letters.dropped
    assert [f"INFO console: loopback dropped dead letter {dead_id}"] == lines


async def test_channels_show_what_is_wrong_with_them() -> None:
    """Those of the settings, and those that only records know, with what waits for a retry."""
    site = Site()
    site.put(1, RETRYING)
    page = (await site.visitor().get("/channels")).text

    assert "webhook" in page
    assert "not in the settings" in page
    assert ">1</td>" in page


@pytest.mark.parametrize(
    "path",
    [
        "/records/1-0/redeliver",
        "/records/1-0/resolve",
        "/silences/new",
        "/silences/x/end",
        "/silences/1a2b/send",
        "/quarantine/1-0/replay",
        "/quarantine/1-0/drop",
    ],
)
async def test_nothing_changes_without_a_form(path: str) -> None:
    """The same requests without the form's token are refused, and leave everything as it is."""
    site = Site()
    site.put(1, IN_DOUBT)
    site.letters.put(1)
    fields = {"resolution": "failed", "matchers": "view = a", "lasts": "2h", "why": "x"}
    answer = await site.visitor().post(path, data=fields)
    found = await site.silences.latest()

    assert 403 == answer.status_code
    assert IN_DOUBT == site.store["1-0"]
    assert {"1-0"} == site.letters.there.keys()
    assert not (found and found.silences)


async def test_one_look_serves_all_who_watch(autojump_clock: MockClock) -> None:
    """The store is asked every two seconds at most, however many pages are open; an outage keeps what is shown."""
    site = Site()
    site.put(1, IN_DOUBT)
    feed = Feed(site.desk)
    events = [await feed._look(), await feed._look()]
    asked = len(site.store.called("counts"))
    site.store.decide = lambda _: "down"
    autojump_clock.jump(LOOK_EVERY_S)
    silent = await feed._look()

    assert [b'data: {"in_doubt":1,"total":1}\n\n'] * 2 == events
    assert 1 == asked
    assert silent.startswith(b":")


async def test_the_head_of_what_has_no_end_comes_at_once(autojump_clock: MockClock) -> None:
    """`HEAD` is answered without a body to wait for, and takes nobody's place."""
    answer = None
    with trio.move_on_after(LOOK_EVERY_S):
        answer = await Site().visitor().head("/live")

    assert (200, "text/event-stream; charset=utf-8") == (
        answer and (answer.status_code, answer.headers["content-type"])
    )


async def set_silence(site: Site, browser: Browser) -> tuple[str, str]:
    """Silence every alert for two hours, as the form does; return the silence's ID, and a token for more forms."""
    token = await browser.form_token("/silences/new")
    fields = {"matchers": "", "all_alerts": "1", "lasts": "2h", "why": "planned", "csrf_token": token}
    await browser.post("/silences/new", data=fields)
    found = await site.silences.latest()
    assert found is not None
    return found.silences[0].id, token
