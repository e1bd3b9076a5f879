"""The keys of each kind of channel: what is taken, and the one message for what is not."""

from pathlib import Path

import pytest

from trio_alerts.channels.email import EmailSettings
from trio_alerts.channels.registry import KINDS, channel_settings
from trio_alerts.channels.slack import SlackSettings
from trio_alerts.errors import SettingsError
from trio_alerts.settings.settings import Settings, warnings_about
from trio_alerts.settings.sources import load_settings

MARK = "S3CR3Tmarker"
TABLES = {
    "webhook": f'url = "https://example.org/{MARK}"\nformat = "cloudevents"',
    "slack": f'token = "xoxb-{MARK}"\nroom = "#risk"',
    "pagerduty": f'routing_key = "{MARK}0123456789"',
    "email": f'smtp_url = "smtp://me:{MARK}@mail.example:25"\nsender = "a@b.example"\nto = ["c@d.example"]',
    "file": 'path = "/var/log/alerts.jsonl"',
}


def load(folder: Path, kind: str, keys: str) -> Settings:
    config = folder / "alerts.toml"
    config.write_text(f'[[channels]]\nname = "one"\nkind = "{kind}"\n{keys}\n')
    return load_settings({}, {}, config, channel_settings)


def problem_of(folder: Path, kind: str, keys: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(folder, kind, keys)
    message = str(refused.value)
    assert MARK not in message
    assert 1 == len(message.splitlines())
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_configured_by_its_name(kind: str, tmp_path: Path) -> None:
    """What is shown of it has no secret."""
    settings = load(tmp_path, kind, TABLES[kind])
    [channel] = settings.channels

    assert kind == channel.kind
    assert MARK not in repr((settings, channel.destination, warnings_about(settings)))


def test_an_unknown_kind_is_one_message(tmp_path: Path) -> None:
    """It names those that there are."""
    assert 'it must be "webhook" or "slack" or "pagerduty" or "email" or "file"' in problem_of(tmp_path, "smtp", "")


@pytest.mark.parametrize(
    ("kind", "keys", "problem"),
    [
        ("webhook", f'url = "https://h/{MARK}"\nformat = "xml"', "format: 'xml' from"),
        ("slack", "", "it takes token and room (a bot), or url alone (an incoming webhook)"),
        ("slack", 'room = "#risk"', "it takes token and room (a bot), or url alone (an incoming webhook)"),
        ("slack", f'url = "https://h/{MARK}"\nroom = "#risk"', "it takes token and room (a bot), or url alone"),
        ("slack", f'token = "a b {MARK}"\nroom = "r"', "token: the value from"),
        ("slack", f'url = "http://169.254.169.254/{MARK}"', "nothing can ever be sent to 169.254.169.254"),
        ("pagerduty", "", "routing_key is missing"),
        ("pagerduty", 'routing_key = "short"', "routing_key: the value from"),
        ("email", f'smtp_url = "http://me:{MARK}@h"\nsender = "a@b"\nto = ["c@d"]', "unknown scheme"),
        ("email", f'smtp_url = "smtp://{MARK}@h"\nsender = "a@b"\nto = ["c@d"]', "a user needs a password"),
        ("email", f'smtp_url = "smtp://h/{MARK}"\nsender = "a@b"\nto = ["c@d"]', "nothing may follow the host"),
        ("email", 'smtp_url = "smtp://h"\nsender = "A <a@b>"\nto = ["c@d"]', "sender: 'A <a@b>' from"),
        ("email", 'smtp_url = "smtp://h"\nsender = "a@b"\nto = ["c@d\\nBcc: x@y"]', "to: ['c@d\\nBcc: x@y'] from"),
        ("email", 'smtp_url = "smtp://h"\nsender = "a@b"\nto = []', "to: [] from"),
        ("email", 'smtp_url = "smtp://169.254.169.254"\nsender = "a@b"\nto = ["c@d"]', "nothing can ever be sent to"),
        ("file", "", "path is missing"),
        ("file", 'path = "logs/"', "path: 'logs/' from"),
    ],
)
def test_a_wrong_key_is_one_message(kind: str, keys: str, problem: str, tmp_path: Path) -> None:
    """It says which key, and what would be right; never a secret."""
    assert problem in problem_of(tmp_path, kind, keys)


def test_every_secret_can_be_in_a_file(tmp_path: Path) -> None:
    """As for all other secrets."""
    secret = tmp_path / "secret"
    secret.write_text(f"xoxb-{MARK}\n")
    [slack] = load(tmp_path, "slack", f'token_file = "{secret}"\nroom = "r"').channels
    secret.write_text(f"smtps://me:{MARK}@h\n")
    [email] = load(tmp_path, "email", f'smtp_url_file = "{secret}"\nsender = "a@b"\nto = ["c@d"]').channels

    assert isinstance(slack, SlackSettings)
    assert slack.token is not None
    assert f"xoxb-{MARK}" == slack.token.reveal()
    assert isinstance(email, EmailSettings)
    assert ("h", 465, True, "me") == (
        email.smtp_url.host,
        email.smtp_url.port,
        email.smtp_url.tls,
        email.smtp_url.username,
    )


@pytest.mark.parametrize(
    ("kind", "keys", "warning"),
    [
        ("email", TABLES["email"] + "\nstarttls = false", "sends its password in clear text"),
        ("file", 'path = "/no/such/folder/file"', "there is no folder '/no/such/folder'"),
    ],
)
def test_what_is_not_wise_is_a_warning(kind: str, keys: str, warning: str, tmp_path: Path) -> None:
    """It is said at start and by `check`."""
    assert [one for one in warnings_about(load(tmp_path, kind, keys)) if warning in one]


def test_a_kind_that_is_no_text_is_refused_like_any_other() -> None:
    """However deep it is nested: nobody can have meant one of the kinds by it, so nothing is suggested."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match=r'it must be "webhook" or .* or "file"$'):
        channel_settings(nested)
