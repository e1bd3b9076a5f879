"""Services that refuse us, and the whole program: people are told, nothing is lost, and it arrives once put right."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.contracts.channel import HOSTILE
from tests.real.conftest import MakeSite
from tests.support.program import Site, stop
from tests.support.servers.process import free_port
from tests.support.services.pagerduty import PagerDutyStandIn
from tests.support.services.slack import SlackStandIn, seen
from tests.support.services.smtp import body_of, parsed
from trio_alerts.text import one_line

TOKEN, KEY, PASSWORD = "xoxb-1234567890-S3CR3Tmarker", "S3CR3Tmarker0123456789abcdef0123", "S3CR3Tmarker"
CONFIG = """
[[channels]]
kind = "slack"
name = "desk"
token = "{token}"
room = "C024BE91L"
api_url = "http://127.0.0.1:{http}/api"

[[channels]]
kind = "pagerduty"
name = "page"
routing_key = "{key}"
url = "http://127.0.0.1:{http}/enqueue"

[[channels]]
kind = "email"
name = "mail"
smtp_url = "smtp://alerts:{password}@127.0.0.1:{smtp}"
sender = "alerts@example.org"
to = ["risk@example.org"]
starttls = false

[[routes]]
matchers = ["severity = high"]
channels = ["desk"]

[[routes]]
matchers = ["severity = critical"]
channels = ["page"]

[[routes]]
channels = ["mail"]
"""
TITLES = {"high": "for the desk", "critical": "for the pager", "low": "for the mail box"}


@dataclass
class Services:
    """Slack, PagerDuty and a mail server, as they are configured to know us."""

    slack: SlackStandIn = field(default_factory=lambda: SlackStandIn(TOKEN, "C024BE91L"))
    pagerduty: PagerDutyStandIn = field(default_factory=lambda: PagerDutyStandIn(KEY))
    password: str = PASSWORD
    mailbox: str = "risk@example.org"
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_RCPT(self, _: object, __: object, envelope: Any, address: str, ___: object) -> str:  # noqa: N802
        if address != self.mailbox:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: object, __: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(parsed(envelope.content))
        return "250 OK"

    def authenticate(self, *given: Any) -> AuthResult:
        login = given[-1]
        known = isinstance(login, LoginPassword) and login.password == self.password.encode()
        return AuthResult(success=known, handled=False)  # it answers by itself

    @contextmanager
    def serving(self) -> Iterator[dict[str, int]]:
        """Serve; yield the ports."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # the answers say so: a connection that 1.0 closes may be in use again

            def do_POST(handler) -> None:  # noqa: N805 - the outer `self` is asked
                body = handler.rfile.read(int(handler.headers["content-length"]))
                head = "".join(f"{name}: {value}\r\n" for name, value in handler.headers.items())
                service = self.slack if handler.path.startswith("/api/") else self.pagerduty
                handler.wfile.write(service.answer(f"{handler.requestline}\r\n{head}\r\n".encode() + body))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        smtp = Controller(
            self,
            hostname="127.0.0.1",
            port=free_port(),
            authenticator=self.authenticate,
            auth_required=True,
            auth_require_tls=False,
        )
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            smtp.start()
            yield {"http": http.server_port, "smtp": smtp.port}
        finally:
            smtp.stop()
            http.shutdown()
            thread.join()
            http.server_close()

    def read(self) -> dict[str, list[str]]:
        """Return what people have read, by channel."""
        return {
            "desk": [seen(message) for message in self.slack.posted],
            "page": [json.dumps(event, ensure_ascii=False) for event in self.pagerduty.events],
            "mail": [f"{mail['subject']}\n{body_of(mail, 'plain')}" for mail in self.mails],
        }


def unknown_to_them(services: Services) -> None:
    services.slack.token, services.pagerduty.routing_key, services.password = "xoxb-another", "another", "another"


def nobody_there(services: Services) -> None:
    services.slack.room, services.mailbox = "C0ARCHIVED", "gone@example.org"


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # this is about other things
@pytest.mark.parametrize(
    ("harm", "reasons", "states"),
    [
        (
            unknown_to_them,
            {
                "desk": "Slack said invalid_auth",
                "page": "PagerDuty does not know the routing key",
                "mail": "AUTH refused with 535",
            },
            ("retrying",) * 3,
        ),
        (
            nobody_there,
            {"desk": "Slack said channel_not_found", "mail": "550"},
            ("retrying", "delivered", "failed"),
        ),
    ],
)
def test_what_a_service_refuses_is_told_kept_and_sent_later(
    harm: Callable[[Services], None], reasons: dict[str, str], states: tuple[str, ...], make_site: MakeSite
) -> None:
    """A wrong token, a room that is gone, a mail server that refuses: one error line each, and no alert is lost.

    Once it is put right and `redeliver` was called, people read it, whatever was in the alert.
    """
    services = Services()
    harm(services)
    site = make_site(Site, retry_schedule_s="600")
    del site.settings["webhook_url"]
    with services.serving() as ports:
        config = site.folder / "channels.toml"
        config.write_text(CONFIG.format(token=TOKEN, key=KEY, password=PASSWORD, **ports))
        site.settings["config"] = str(config)
        with site.running() as worker:
            told = [
                site.emit(severity=severity, title=title, description="".join(HOSTILE), alert_id=severity)
                for severity, title in TITLES.items()
            ]
            site.until(*states)
            errors = [line for line in map(json.loads, site.log().splitlines()) if line["level"] == "error"]
            refused = [line for line in errors if "(first with " in line["message"]]  # the breaker says so later
            for name, reason in reasons.items():
                assert [name] == [line["channel"] for line in refused if reason in line["reason"]], site.log()
                tried = site.call("channels", "test", name)
                assert (1, True) == (tried.exit_code, reason in tried.out), tried
                assert "535 535" not in tried.out  # a mail server's answer begins with its code
            balanced = json.loads(site.ask("audit", "--json").out)
            assert (3, 0, True) == (balanced["seen"], balanced["missing"], balanced["balanced"])

            unharmed = Services()
            services.slack.token, services.slack.room = unharmed.slack.token, unharmed.slack.room
            services.pagerduty.routing_key = unharmed.pagerduty.routing_key
            services.password, services.mailbox = unharmed.password, unharmed.mailbox
            assert 0 == site.ask("redeliver", "--state", "failed", "--state", "retrying").exit_code
            site.until(*["delivered"] * 3)
            assert 0 == stop(worker), site.log()

    assert "S3CR3T" not in site.log()
    assert dict.fromkeys(reasons, 1) == {name: len(services.read()[name]) for name in reasons}
    for text in (text for name in reasons for text in services.read()[name]):
        assert one_line(HOSTILE[1]) in text
    assert {"delivered"} == {record["delivery"]["state"] for record in site.records().values()}
    assert sorted(told) == sorted(site.records())
