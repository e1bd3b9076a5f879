"""Mail through Postfix: STARTTLS, TLS from the first byte on, logins, refusals, and what a mail program shows."""

import datetime as dt
import os
import pwd
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
from anyio import to_thread

from tests.contracts.channel import HOSTILE
from tests.contracts.test_channel import as_people_read, read_text
from tests.support.obtain import obtain
from tests.support.servers import Server, UnavailableError
from tests.support.servers.process import free_port
from tests.support.services.smtp import body_of, parsed
from tests.support.tls import TlsFiles
from trio_alerts.assembly import make_channel
from trio_alerts.channels.email import EmailSettings
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import ConfiguredChannel, Message
from trio_alerts.settings.addresses import parse_smtp_url

USER, PASSWORD, DOMAIN = "alerts", "pa55word marker", "example.org"
TO = (f"risk@{DOMAIN}", f"desk@{DOMAIN}")

# No mail leaves the machine: `example.org` is delivered to files, all else is refused.
MAIN_CF = """
    compatibility_level = 3.6
    maillog_file = /dev/stdout
    queue_directory = {folder}/spool
    data_directory = {folder}/data
    daemon_directory = {daemons}
    mail_owner = postfix
    setgid_group = postdrop
    myhostname = mail.example.org
    mydestination =
    local_recipient_maps =
    mynetworks =
    inet_interfaces = 127.0.0.1
    inet_protocols = ipv4
    alias_maps =
    alias_database =
    default_transport = error:nothing leaves this machine
    relay_transport = error:nothing leaves this machine
    virtual_mailbox_domains = example.org
    virtual_mailbox_base = {folder}/mail
    virtual_mailbox_maps = inline:{{ risk@example.org=risk/ desk@example.org=desk/ }}
    virtual_uid_maps = static:{user}
    virtual_gid_maps = static:{group}
    message_size_limit = 100000
    smtpd_tls_cert_file = {folder}/cert.pem
    smtpd_tls_key_file = {folder}/key.pem
    smtpd_tls_security_level = encrypt
    smtpd_tls_auth_only = yes
    smtpd_sasl_auth_enable = yes
    smtpd_sasl_path = smtpd
    smtpd_sasl_local_domain = example.org
    cyrus_sasl_config_path = {folder}/etc/sasl
    smtpd_recipient_restrictions = permit_sasl_authenticated, reject
    smtpd_relay_restrictions = permit_sasl_authenticated, reject
    smtpd_delay_reject = no
    smtpd_sender_restrictions = check_sender_access inline:{{ {{ busy@example.org = 451 4.7.1 come back later }} }}
"""

MASTER_CF = """
    127.0.0.1:{port} inet n - n - - smtpd
    127.0.0.1:{tls_port} inet n - n - - smtpd
      -o smtpd_tls_wrappermode=yes
    pickup unix n - n 60 1 pickup
    cleanup unix n - n - 0 cleanup
    qmgr unix n - n 300 1 qmgr
    tlsmgr unix - - n 1000? 1 tlsmgr
    rewrite unix - - n - - trivial-rewrite
    bounce unix - - n - 0 bounce
    defer unix - - n - 0 bounce
    trace unix - - n - 0 bounce
    error unix - - n - - error
    virtual unix - n n - - virtual
    anvil unix - - n - 1 anvil
    postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """The distribution's Postfix on free ports, with mailboxes and a login of its own, and nothing of the system's."""

    name = "Postfix"

    def __init__(self, tls: TlsFiles) -> None:
        super().__init__()
        if not (shutil.which("postfix") and shutil.which("saslpasswd2")):
            raise UnavailableError("Postfix is not installed: apt-get install postfix libsasl2-modules sasl2-bin")
        if os.geteuid() != 0:
            raise UnavailableError("Postfix starts as root only")
        said = subprocess.run(["postconf", "-dh", "daemon_directory"], capture_output=True, text=True, check=True)
        self._daemons = said.stdout.strip()
        self._owner = pwd.getpwnam("postfix")  # the package made it
        self._tls = tls
        self.port = self.tls_port = 0

    def configure(self) -> None:
        """Write the configuration, and make the login."""
        self.port, self.tls_port = free_port(), free_port()
        self.folder.chmod(0o755)  # its processes run as another user
        user, group = self._owner.pw_uid, self._owner.pw_gid
        for name in ("etc/sasl", "spool", "data", "mail"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("data", "mail"):
            os.chown(self.folder / name, user, group)
        for name in ("cert", "key"):
            shutil.copy(getattr(self._tls, name), self.folder / f"{name}.pem")
        values = {"folder": self.folder, "daemons": self._daemons, "user": user, "group": group}
        values |= {"port": self.port, "tls_port": self.tls_port}
        for name, text in (("main.cf", MAIN_CF), ("master.cf", MASTER_CF)):
            (self.folder / "etc" / name).write_text(textwrap.dedent(text).format(**values))
        logins = self.folder / "etc" / "sasl" / "logins.db"  # Debian looks in this folder whatever main.cf says
        logins.with_name("smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {logins}\nmech_list: PLAIN LOGIN\n"
        )
        add_login = ["saslpasswd2", "-p", "-c", "-f", str(logins), "-u", DOMAIN, USER]
        subprocess.run(add_login, input=PASSWORD.encode(), check=True)
        os.chown(logins, user, group)
        subprocess.run(["postfix", "-c", str(self.folder / "etc"), "check"], check=True)  # it makes the spool's folders

    def command(self) -> list[str]:
        """Return the master's own command line: by `postfix start-fg` it would be in a group of its own."""
        return [f"{self._daemons}/master", "-c", str(self.folder / "etc"), "-s"]

    def is_ready(self) -> bool:
        """Tell whether it greets."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as probe:
            return probe.recv(3) == b"220"
        return False

    def count(self, user: str) -> int:
        """Return how many mails a user has got."""
        box = self.folder / "mail" / user / "new"
        return len(list(box.iterdir())) if box.exists() else 0

    def mails(self, user: str, count: int) -> list[EmailMessage]:
        """Return what a user has got, as a mail program shows it, once it is so much; it is delivered in a moment."""
        box = self.folder / "mail" / user / "new"
        deadline = time.monotonic() + 30
        while self.count(user) < count:
            assert time.monotonic() < deadline, self.log_tail()
            time.sleep(0.05)
        return [parsed(path.read_bytes()) for path in box.iterdir()]


@pytest.fixture(scope="module")
def postfix(tls_files: TlsFiles) -> Iterator[Postfix]:
    with obtain(lambda: Postfix(tls_files)) as server:
        yield server


async def attempt(server: Postfix, tls: TlsFiles, scheme: str = "smtp", **keys: Any) -> Outcome | Later:
    """Send one mail through the server; `event` is the alert, the other keys are settings."""
    event = keys.pop("event", {"title": "x"})
    async with TrioTransport() as transport:
        channel = channel_to(server, tls, transport, scheme, **keys)
        message = Message("17-0", msgspec.json.encode({"severity": "high"} | event), trio.current_time() + 60)
        return await channel.send(message)


def channel_to(
    server: Postfix, tls: TlsFiles, transport: TrioTransport, scheme: str, password: str = PASSWORD, **keys: Any
) -> ConfiguredChannel:
    port = server.tls_port if scheme == "smtps" else server.port
    url = f"{scheme}://{quote(f'{USER}@{DOMAIN}')}:{quote(password)}@127.0.0.1:{port}"
    settings: dict[str, Any] = {"sender": f"alerts@{DOMAIN}", "to": TO, "ca_file": tls.ca} | keys
    return make_channel(
        EmailSettings(name="mail", smtp_url=parse_smtp_url(url), **settings), transport, lambda: dt.datetime.now(dt.UTC)
    )


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_mail_arrives_as_it_was_sent(scheme: str, postfix: Postfix, tls_files: TlsFiles) -> None:
    """By STARTTLS, or encrypted from the first byte on; whatever stands in each field, it is read as that."""
    before = postfix.count("risk")
    events = [dict.fromkeys(("title", "view", "source", "description"), text) for text in HOSTILE]
    events.append({"title": "dots", "description": ".\r\n..\n.\nend", "view": "x" * 2000})
    for event in events:
        assert isinstance(await attempt(postfix, tls_files, scheme, event=event), Accepted)

    for user in ("risk", "desk"):
        mails = await to_thread.run_sync(postfix.mails, user, before + len(events))
        read = [read_text(body_of(mail, "plain")).items() for mail in mails]
        assert [] == [event for event in map(as_people_read, events) if not any(event.items() <= one for one in read)]
        assert {("alerts@example.org", "<alerts@example.org>")} == {(one["From"], one["Return-Path"]) for one in mails}


async def test_the_reference_is_in_the_log_of_the_server(postfix: Postfix, tls_files: TlsFiles) -> None:
    """Whoever looks for a mail there finds it by what the record says."""
    outcome = await attempt(postfix, tls_files)

    assert isinstance(outcome, Accepted)
    assert f"message-id={outcome.reference}" in postfix.log_tail(100)


async def test_a_server_can_be_looked_at_without_a_mail(postfix: Postfix, tls_files: TlsFiles) -> None:
    """`check` greets, encrypts and logs in."""
    async with TrioTransport() as transport:
        right = channel_to(postfix, tls_files, transport, "smtp")
        wrong = channel_to(postfix, tls_files, transport, "smtp", password="wr0ng-password")

        assert None is await right.why_unreachable(trio.current_time() + 30)
        assert "AUTH: the server said 535" in str(await wrong.why_unreachable(trio.current_time() + 30))


@pytest.mark.parametrize(
    ("keys", "reason", "kind", "needs_human"),
    [
        ({"password": "wr0ng-password"}, "AUTH refused with 535", Retry, True),
        ({"sender": "busy@example.org"}, "MAIL refused with 451", Retry, False),
        ({"to": ("nobody@example.org",)}, "RCPT refused with 550", Refused, True),
    ],
)
async def test_what_the_server_refuses(
    keys: dict[str, Any], reason: str, kind: type, needs_human: bool, postfix: Postfix, tls_files: TlsFiles
) -> None:
    """A wrong password is for a human and loses nothing; 4yz may pass; 5yz is final."""
    outcome = await attempt(postfix, tls_files, **keys)

    assert isinstance(outcome, kind)
    assert (reason, needs_human, False) == (outcome.reason, outcome.needs_human, outcome.unseen)
    assert "wr0ng" not in repr(outcome)


async def test_a_recipient_that_is_unknown_keeps_nobody_else_waiting(postfix: Postfix, tls_files: TlsFiles) -> None:
    """The others get the mail, and the record says who did not."""
    outcome = await attempt(postfix, tls_files, to=("nobody@example.org", TO[0]))

    assert isinstance(outcome, Accepted)
    assert "not to nobody@example.org: 550 5.1.1" in outcome.answer


async def test_a_server_that_is_not_trusted_gets_nothing(postfix: Postfix, tls_files: TlsFiles) -> None:
    """Neither the password nor the alert goes out before its certificate is known."""
    outcome = await attempt(postfix, tls_files, ca_file=tls_files.wrong_ca)

    assert isinstance(outcome, Retry)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
    assert not outcome.unseen
