"""Nobody gets in without a proof, and nothing changes without a second one."""

import time

import pytest
import trio
from starlette.types import Message
from trio.testing import MockClock

from tests.unit.operations.desk import DELIVERED
from tests.unit.web.site import HERE, PROXIES, TOKEN, Browser, Site, fields_of
from trio_alerts.web.door import BODY_WITHIN_S, FORM_TOKEN, MOST_BODY
from trio_alerts.web.signing import LASTS_S
from trio_alerts.web.throttle import AT_ONCE, EVERY_S

BEARER = {"Authorization": f"Bearer {TOKEN}"}
GONE = "/there/is/no/such/page"  # behind the door: whoever gets 404 got in


async def test_without_a_proof_there_is_the_sign_in_form() -> None:
    """A page asks for the token; what it would have shown is not in the answer."""
    site = Site(token=TOKEN)
    site.put(1, DELIVERED, title="Secret of the desk")
    answer = await site.visitor().get("/?state=failed")

    assert 401 == answer.status_code
    assert "Bearer" == answer.headers["www-authenticate"]
    assert "Secret of the desk" not in answer.text
    assert 'value="/?state=failed"' in answer.text  # it leads back


async def test_the_token_opens_every_page() -> None:
    """`Authorization: Bearer` is enough, on pages as well."""
    assert 200 == (await Site(token=TOKEN).visitor().get("/", headers=BEARER)).status_code


@pytest.mark.parametrize("wrong", ["", "correct-horse-batter", f"{TOKEN}x", "\xe9".encode().decode("latin-1")])
async def test_a_wrong_token_opens_nothing(wrong: str) -> None:
    """A token is right as a whole or not at all."""
    headers = {b"Authorization": f"Bearer {wrong}".encode()}
    answer = await Site(token=TOKEN).visitor().get("/", headers=headers)

    assert 401 == answer.status_code


async def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the comparison takes says nothing about how far a guess is right: it is compare_digest, on digests."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr("trio_alerts.web.visitors.hmac.compare_digest", compare)
    await Site(token=TOKEN).visitor().get("/", headers={"Authorization": "Bearer x"})

    assert [(32, 32)] == [(len(one), len(other)) for one, other in compared]


async def test_guesses_are_slowed(autojump_clock: MockClock, lines: list[str]) -> None:
    """After some wrong tokens the answer to each one more takes a while; an address that had rest starts anew."""
    guessing = Site(token=TOKEN).visitor("10.1.1.1")
    took_s = [await _guess(guessing) for _ in range(AT_ONCE + 3)]
    await trio.sleep(EVERY_S * (AT_ONCE + 1))

    assert [0.0] * AT_ONCE + [EVERY_S] * 3 == took_s
    assert 0.0 == await _guess(guessing)
    assert ["WARNING console: a wrong token from 10.1.1.1"] * (AT_ONCE + 4) == lines


async def test_many_guesses_at_once_do_not_fill_the_log(autojump_clock: MockClock, lines: list[str]) -> None:
    """Whoever does not wait for an answer is logged as often as if they did, and is held back no longer than twice."""
    guessing, took_s = Site(token=TOKEN).visitor("10.1.1.1"), list[float]()

    async def guess() -> None:
        took_s.append(await _guess(guessing))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(guess)

    assert [0.0] * AT_ONCE + [EVERY_S] + [2 * EVERY_S] * 39 == took_s
    assert AT_ONCE + 1 == len(lines)


async def test_guesses_shut_nobody_out(autojump_clock: MockClock) -> None:
    """Behind a proxy all have one address: the right token opens at once, as a bearer token and in the form."""
    site = Site(token=TOKEN)
    for _ in range(AT_ONCE + 3):
        await _guess(site.visitor())
    began_s = trio.current_time()

    assert 200 == (await site.visitor().get("/", headers=BEARER)).status_code
    assert 303 == (await site.visitor().sign_in()).status_code
    assert began_s == trio.current_time()


async def _guess(visitor: Browser) -> float:
    """Try a wrong token; return how long the answer took."""
    began_s = trio.current_time()
    answer = await visitor.get("/", headers={"Authorization": "Bearer a-guess"})
    assert 401 == answer.status_code
    return trio.current_time() - began_s


async def test_signing_in_makes_a_cookie_that_no_script_and_no_other_site_can_use() -> None:
    """The form gives a session: HttpOnly, SameSite=Strict, for one shift; then every page opens."""
    browser = Site(token=TOKEN).visitor()
    answer = await browser.sign_in(wanted="/?state=failed")

    cookie = answer.headers["set-cookie"].lower()
    assert (303, "/?state=failed") == (answer.status_code, answer.headers["location"])
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"max-age={LASTS_S}" in cookie
    assert TOKEN not in cookie
    assert 200 == (await browser.get("/")).status_code


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_behind_tls_the_cookie_is_secure(scheme: str) -> None:
    """A proxy ends TLS, so we see HTTP: the browser says that its page came over HTTPS, and its session stays there."""
    browser = Site(token=TOKEN).visitor(Origin=f"{scheme}://console.example", Host="console.example")

    assert (scheme == "https") == ("secure" in (await browser.sign_in()).headers["set-cookie"].lower())


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\nx"])
async def test_signing_in_leads_nowhere_else(elsewhere: str) -> None:
    """The page that was wanted is one of the console's own."""
    answer = await Site(token=TOKEN).visitor().sign_in(wanted=elsewhere)

    assert (303, "/") == (answer.status_code, answer.headers["location"])


async def test_a_wrong_token_in_the_form_signs_nobody_in() -> None:
    """The form comes again and says so; there is no cookie."""
    answer = await Site(token=TOKEN).visitor().sign_in("wrong-token")

    assert (401, False) == (answer.status_code, "set-cookie" in answer.headers)
    assert "That is not the token." in answer.text


async def test_a_session_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie that is older than a shift is worth nothing, also from a client that keeps it."""
    site = Site(token=TOKEN)
    browser = site.visitor()
    kept = (await browser.sign_in()).headers["set-cookie"].partition(";")[0]
    now = time.time()
    before = await site.visitor().get("/", headers={"Cookie": kept})
    monkeypatch.setattr("time.time", lambda: now + LASTS_S + 2)
    after = await site.visitor().get("/", headers={"Cookie": kept})

    assert [200, 401] == [before.status_code, after.status_code]


async def test_another_token_signs_everybody_out() -> None:
    """Sessions are signed with the token: nothing is stored, and none survives its change."""
    browser, changed = Site(token=TOKEN).visitor(), Site(token="another-token").visitor()
    await browser.sign_in()
    changed.cookies = browser.cookies

    assert 401 == (await changed.get("/")).status_code


async def test_consoles_with_the_same_token_know_each_others_sessions() -> None:
    """The console is stateless: a second one takes over where the first was."""
    browser, beside = Site(token=TOKEN).visitor(), Site(token=TOKEN).visitor()
    await browser.sign_in()
    beside.cookies = browser.cookies

    assert 200 == (await beside.get("/")).status_code


async def test_signing_out_takes_the_cookie_away() -> None:
    """After it the browser has no session."""
    browser = Site(token=TOKEN).visitor()
    await browser.sign_in()
    await browser.post("/sign-out", data={FORM_TOKEN: await browser.form_token("/")})

    assert 401 == (await browser.get("/")).status_code


@pytest.mark.parametrize("path", ["/sta%09tic/console.css", "/sign-in%0A"])
async def test_what_only_looks_like_an_open_page_is_behind_the_door(path: str) -> None:
    """Who gets in is decided by the path that the pages are told apart by, and not by what a URL makes of it."""
    assert 401 == (await Site(token=TOKEN).visitor().get(path)).status_code


@pytest.mark.parametrize("path", ["/silences/", "/quarantine/", "/api/v1", "/static"])
async def test_nothing_leads_to_an_address_that_we_only_guess(path: str) -> None:
    """An address with a slash too many or too few is none: behind TLS a redirect of ours would lead to HTTP."""
    assert (await Site().visitor().get(path)).status_code in (400, 404)


async def test_who_signs_out_too_late_is_not_led_there_again() -> None:
    """The session had ended: after the next sign-in come the records, and not an error."""
    answer = await Site(token=TOKEN).visitor().post("/sign-out")

    assert (401, "/") == (answer.status_code, fields_of(answer.text)["wanted"])


async def test_a_form_token_is_no_session() -> None:
    """What signs forms signs no cookies, though the key is the same."""
    browser = Site(token=TOKEN).visitor()
    browser.cookies.set("trio_alerts_session", await browser.form_token())

    assert 401 == (await browser.get("/")).status_code


async def test_a_proxy_names_the_user() -> None:
    """The header counts if it comes from a listed network."""
    site = Site(**PROXIES)
    answer = await site.visitor("10.2.3.4", X_User="ann").get("/")

    assert 200 == answer.status_code
    assert ">ann<" in answer.text


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1", "::1", "not an address"])
async def test_the_header_of_anybody_else_means_nothing(address: str) -> None:
    """From outside of the listed networks it is as if it was not there; not even this machine is trusted then."""
    assert 401 == (await Site(**PROXIES).visitor(address, X_User="ann").get("/")).status_code


async def test_an_ipv4_proxy_may_come_over_ipv6() -> None:
    """A listener for both sees the proxy as `::ffff:10.2.3.4`."""
    assert 200 == (await Site(**PROXIES).visitor("::ffff:10.2.3.4", X_User="ann").get("/")).status_code


@pytest.mark.parametrize("names", [["ann", "bob"], [""], ["  "], []])
async def test_two_names_are_none(names: list[str]) -> None:
    """A visitor may have added a header to the proxy's: then nobody knows who it is."""
    browser = Site(**PROXIES).visitor("10.2.3.4")

    assert 401 == (await browser.get("/", headers=[("X-User", name) for name in names])).status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1"]
)
async def test_without_a_token_only_this_machine_is_meant(host: str) -> None:
    """A name that somebody made lead here is refused, on every path: a page of theirs would be ours (DNS rebinding)."""
    browser = Site().visitor()

    assert 421 == (await browser.get("/", headers={"Host": host})).status_code
    assert 421 == (await browser.get("/static/console.css", headers={"Host": host})).status_code


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "[::1]:8081"])
async def test_this_machine_has_several_names(host: str) -> None:
    """All of them are right."""
    assert 200 == (await Site().visitor().get("/", headers={"Host": host})).status_code


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
async def test_no_change_without_the_token_of_a_form(method: str) -> None:
    """Whoever a browser speaks for must have seen a form: on every path, by every method that may change."""
    site = Site(token=TOKEN)
    browser = site.visitor()
    await browser.sign_in()
    token = await browser.form_token("/")

    for wrong in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": f"{token[:-8]}tampered"}):
        assert 403 == (await browser.request(method, GONE, headers=wrong)).status_code
    assert 404 == (await browser.request(method, GONE, headers={"X-CSRF-Token": token})).status_code


async def test_the_token_of_a_form_counts_for_one_visitor_only() -> None:
    """A form that one person was shown proves nothing about another."""
    site = Site(**PROXIES)
    ann, bob = site.visitor("10.2.3.4", X_User="ann"), site.visitor("10.2.3.4", X_User="bob")
    of_ann = await ann.form_token("/quarantine")

    assert 404 == (await ann.post(GONE, data={FORM_TOKEN: of_ann})).status_code
    assert 403 == (await bob.post(GONE, data={FORM_TOKEN: of_ann})).status_code


async def test_a_form_that_lies_open_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token ends with the shift."""
    browser = Site().visitor()
    token = await browser.form_token("/")
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + LASTS_S + 2)

    assert 403 == (await browser.post(GONE, data={FORM_TOKEN: token})).status_code


async def test_a_bearer_token_needs_no_form() -> None:
    """No browser sends it by itself, so no other site can make one."""
    assert 404 == (await Site(token=TOKEN).visitor().post(GONE, headers=BEARER)).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": HERE},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
async def test_another_site_changes_nothing(headers: dict[str, str]) -> None:
    """What a browser says of where a request comes from is enough to refuse it, also with a form's token."""
    browser = Site().visitor()

    assert (
        403 == (await browser.post(GONE, data={FORM_TOKEN: await browser.form_token("/")}, headers=headers)).status_code
    )


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": HERE}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://alerts.example.org"}],
)
async def test_our_own_pages_may(headers: dict[str, str]) -> None:
    """Also behind a proxy that gives us another name: then the browser's own word counts."""
    browser = Site().visitor()

    assert (
        404 == (await browser.post(GONE, data={FORM_TOKEN: await browser.form_token("/")}, headers=headers)).status_code
    )


async def test_a_read_only_console_changes_nothing() -> None:
    """With every proof; but people can sign in and out."""
    browser = Site(token=TOKEN, read_only=True).visitor()

    assert 303 == (await browser.sign_in()).status_code
    token = await browser.form_token("/")
    assert 403 == (await browser.post(GONE, data={FORM_TOKEN: token})).status_code
    assert 403 == (await browser.post(GONE, headers=BEARER)).status_code
    assert 303 == (await browser.post("/sign-out", data={FORM_TOKEN: token})).status_code


async def test_a_body_has_a_bound() -> None:
    """What is too large is refused as soon as it is, and not held."""
    assert (413, MOST_BODY // 1000 + 1) == await _post_slowly(Site(), parts=10_000, every_s=0.0)


async def test_a_body_has_a_time(autojump_clock: MockClock) -> None:
    """Who sends byte by byte holds nobody up for longer than this."""
    assert (408, BODY_WITHIN_S - 1) == await _post_slowly(Site(), parts=1_000, every_s=1.0)


async def _post_slowly(site: Site, parts: int, every_s: float) -> tuple[int, float]:
    """Send a body of so many parts of 1,000 bytes; return the status, and how many parts were taken."""
    taken, status = 0, 0

    async def receive() -> Message:
        nonlocal taken
        await trio.sleep(every_s)
        taken += 1
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": taken < parts}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "POST", "path": GONE, "query_string": b"", "headers": [(b"host", b"localhost")]}
    await site.app(scope, receive, send)
    return status, taken


@pytest.mark.parametrize("path", ["/", GONE, "/sign-in", "/static/console.css", "/static/none.css"])
async def test_every_answer_tells_the_browser_what_not_to_do(path: str) -> None:
    """No inline script or style, no frame, no guessed type, no referrer elsewhere, nothing kept."""
    headers = (await Site().visitor().get(path)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy
    assert "nosniff" == headers["x-content-type-options"]
    assert "same-origin" == headers["referrer-policy"]
    assert "no-store" == headers["cache-control"]
