"""Secrets that a receiver repeats: found in every form in which servers write them, and nothing else is."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_alerts.redaction import COMMON, Redactor, secrets_of_request

SECRET = 'T0/ab+c=Ä&"<9'
FORMS: list[Callable[[str], str]] = [
    str,
    str.upper,
    quote,
    lambda text: quote(text, safe=""),
    lambda text: quote(text, safe="").lower(),
    lambda text: quote(quote(text, safe=""), safe=""),
    quote_plus,
    html.escape,
    lambda text: html.escape(html.escape(text)),
    lambda text: "".join(f"&#{ord(c)};" if not c.isalnum() else c for c in text),
    lambda text: "".join(f"&#x{ord(c):X};" if not c.isalnum() else c for c in text),
    json.dumps,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: json.dumps(text).replace("/", "\\/").replace("<", "\\u003c").replace("&", "\\u0026"),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(f"user:{text}".encode()).decode().rstrip("="),
    lambda text: base64.b64encode(f'{{"a":"{text}","b":1}}'.encode()).decode(),
    lambda text: "".join(c if c.isalnum() else "\\" + c for c in text),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form(form: Callable[[str], str]) -> None:
    """As it is, percent-encoded, escaped as in JSON and HTML, also twice, and in base64 wherever it begins."""
    written = form(SECRET)
    shown = Redactor([SECRET]).redact(f"Cannot POST {written} here")

    assert "***" in shown
    assert written not in shown
    assert "T0" not in shown
    assert shown.startswith("Cannot POST ")
    assert shown.endswith(" here")


@example("MESSAGE", str, "", "")
@given(st.text(min_size=6, max_size=40), st.sampled_from(FORMS), st.text(max_size=20), st.text(max_size=20))
def test_no_form_of_any_secret_is_left(secret: str, form: Callable[[str], str], before: str, after: str) -> None:
    """Whatever a secret is made of: each form of it is found, if it is one that can be told from words."""
    telling = [word for word in secret.lower().split("/") if word.isalnum() and len(word) >= 4]
    if COMMON.issuperset(telling) or form in (FORMS[1], FORMS[-1]):
        return
    shown = Redactor([secret]).redact(before + form(secret) + after)
    if not secret.isdigit():
        assert "***" in shown


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("", "nothing"),
        ("abc", "abc and cabcage"),
        ("hooks", "no such hooks"),
        ("/api/v1/alerts", "see /api/v1/alerts"),
        ("Basic", "Basic auth is needed"),
        ("8080", "port 8080 is closed"),
        ("/hook", "the hook is gone"),
        ("application/json", "send application/json"),
    ],
)
def test_short_and_common_words_stay(secret: str, text: str) -> None:
    """An answer that nobody can read helps nobody."""
    assert text == Redactor([secret]).redact(text)


@pytest.mark.parametrize(
    ("url", "headers", "known"),
    [
        ("https://h/hooks/s3cret-path", {}, ["s3cret-path"]),
        ("https://h/services/T00000000/B11111111/abcDEF", {}, ["T00000000", "B11111111", "abcDEF"]),
        ("https://h/bot123456:AAF_x/send", {}, ["bot123456:AAF_x"]),
        ("https://h/x?access_token=qwerty1&y=1", {}, ["qwerty1"]),
        ("https://h/%C3%A4bcde%2Fx", {}, ["%C3%A4bcde%2Fx", "äbcde/x"]),
        ("https://us%40er:p%3Awd1@h/", {}, ["p:wd1", "us@er:p:wd1"]),
        ("https://h/", {"Authorization": "Bearer t0ken"}, ["Bearer t0ken", "t0ken"]),
        ("https://h/", {"Authorization": "Basic dXNlcjpwYXNzd2Q="}, ["dXNlcjpwYXNzd2Q=", "user:passwd", "passwd"]),
        ("https://h/", {"X-Api-Key": "k3y-k3y"}, ["k3y-k3y"]),
    ],
)
def test_what_of_a_request_is_a_secret(url: str, headers: dict[str, str], known: list[str]) -> None:
    """Parts of path and query, the password, what headers carry, and the signing key."""
    redactor = Redactor(secrets_of_request(httpx.URL(url), headers, b"0123456789abcdef01234567"))
    for secret in [*known, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"]:
        assert secret not in redactor.redact(f"<{secret}>")
    assert "<h, https, POST, 404: not found>" == redactor.redact("<h, https, POST, 404: not found>")


def test_what_is_kept_ends_with_no_half_of_a_secret() -> None:
    """Wherever the end of what is kept falls into a secret, however it is written, none of it is left."""
    secret = "abcDEF-0123456789/xyz"
    redactor = Redactor([secret])
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1].replace("/", "\\u002f")):
        for at in range(100):
            body = b"." * at + form.encode() + b"!" * 200
            kept = redactor.redact_beginning(body, 100)
            assert b"abc" not in kept
            assert b"." * at + b"***" == kept[: at + 3]
            assert len(kept) <= 103


def test_what_follows_does_not_slide_into_what_is_kept() -> None:
    """Secrets that are taken out make room: what stood beyond the end does not come in by that."""
    redactor = Redactor(["first-secret-0123456789"])
    body = b"first-secret-0123456789 " * 5 + b"rest of it"

    kept = redactor.redact_beginning(body, 60)

    assert b"*** *** ***" == kept


@pytest.mark.parametrize("length", [2, 5, 10])
def test_a_body_that_was_cut_ends_with_no_half_of_a_secret(length: int) -> None:
    """A connection that breaks in the middle of an echo leaves the first half of it: nobody knows what would follow."""
    redactor = Redactor(["s3cret-path"])
    half = b"Cannot POST " + b"s3cret-path"[:length]

    assert b"Cannot POST ***" == redactor.redact_beginning(half, 1_024, cut=True)
    assert half == redactor.redact_beginning(half, 1_024, cut=False)


def test_a_redactor_shows_no_secret() -> None:
    """Not even in a traceback that shows what it is."""
    assert "<Redactor of 1 secrets>" == repr(Redactor(["s3cret-path"]))
    assert "plain text" == Redactor([]).redact("plain text")
