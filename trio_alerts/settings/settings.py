"""Settings: what each one means and what it may be. Checked once, passed in; read by `sources.py`.

A setting is one field of `Settings`: its name, default, meaning and allowed values stand there and nowhere else;
messages, `--help` and the README's table are made from them.
"""

import os
import resource
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Literal

from trio_alerts.errors import SettingsError
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import OpenSearchAddress, ReceiverAddress, RedisAddress, StoreAddress
from trio_alerts.settings.kinds import (
    CHANNEL_NAME,
    FILE,
    FLAG,
    INDEX,
    MATCH,
    NAME,
    NETWORKS,
    POLICY,
    REDIS_URL,
    SCHEDULE,
    STORE_URL,
    WEBHOOK_SECRET,
    WEBHOOK_URL,
    Kind,
    Networks,
    choice,
    list_of,
    seconds,
    whole,
)

ENV_PREFIX = "TRIO_ALERTS_"

InDoubtPolicy = Literal["resend", "hold"]
DEFAULT_KIND = "webhook"  # of a channel that does not say

_OTHER_FILES = 64  # two for Redis, at most 32 for OpenSearch, the process's own


@dataclass(frozen=True)
class Setting:
    """One setting as users see it, for `--help` and the README; `default` is in words, None where it must be given."""

    name: str
    kind: Kind
    meaning: str
    default: str | None


def about(kind: Kind, meaning: str, default: str = "") -> dict[str, object]:
    """Describe a field; `default` in words where the value itself does not say it."""
    return {"kind": kind, "meaning": meaning, "default": default}


def _consumer_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """One way to reach people: a `[[channels]]` table of the TOML file. Each kind of channel adds its own keys."""

    name: str = field(metadata=about(CHANNEL_NAME, "Its name in routes, records and logs."))
    kind: str = field(default=DEFAULT_KIND, metadata=about(NAME, "What it is."))
    in_doubt_policy: InDoubtPolicy = field(
        default="resend",
        metadata=about(POLICY, "As the setting of that name, for this channel.", "the setting `in_doubt_policy`"),
    )

    @property
    def destination(self) -> str:
        """Where it sends to, for the log at start: without secrets."""
        return self.kind

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:  # noqa: ARG002
        """Say what is wrong between keys that are right by themselves.

        Args:
            networks: The setting `networks`.
        """
        return iter(())

    def warnings(self) -> Iterator[str]:
        """Say what is allowed but not wise."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class RouteSettings:
    """Which alerts go where: a `[[routes]]` table of the TOML file. The first route that matches an alert decides."""

    name: str = field(metadata=about(NAME, "Its name in records and messages.", "`route-` and its number"))
    match: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=about(
            MATCH,
            'Each field must have one of its values; also `labels.NAME`, and `severity = ">=high"`. '
            "None: every alert matches.",
        ),
    )
    channels: tuple[str, ...] = field(
        default=(), metadata=about(list_of(CHANNEL_NAME, "a list of names of channels"), "Where the alert goes.")
    )
    suppress: bool = field(
        default=False,
        metadata=about(FLAG, "Record the alert as `suppressed`, send nothing."),
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be configured. `load_settings` checks it; one that is built directly is trusted."""

    redis_url: RedisAddress = field(
        default=RedisAddress("127.0.0.1"),
        metadata=about(REDIS_URL, "The Redis or Valkey server that holds the stream."),
    )
    redis_ca_file: Path | None = field(
        default=None, metadata=about(FILE, "The CA certificates (PEM) to trust for Redis, instead of the usual ones.")
    )
    store_url: StoreAddress = field(
        default=OpenSearchAddress(("http://127.0.0.1:9200",)),
        metadata=about(STORE_URL, "Where records live: OpenSearch, or an SQLite file."),
    )
    store_ca_file: Path | None = field(
        default=None, metadata=about(FILE, "The CA certificates (PEM) to trust for OpenSearch.")
    )
    stream: str = field(default="AlertStream", metadata=about(NAME, "The stream to read."))
    group: str = field(
        default="alert-processor", metadata=about(NAME, "The consumer group: processes that share it share the work.")
    )
    consumer: str = field(
        default_factory=_consumer_name,
        metadata=about(NAME, "This process in the group; never the same in two processes.", "host-pid-random"),
    )
    streams: tuple[str, ...] = field(
        default=(),
        metadata=about(list_of(NAME, "a list of names"), "The parts of a partitioned stream, instead of `stream`."),
    )
    index: str = field(
        default="alerts",
        metadata=about(INDEX, "The alias of the index; the index itself is called `<alias>-000001`."),
    )
    workers: int = field(
        default=16, metadata=about(whole(1, 20_000), "How many alerts may be under way at once, in tasks.")
    )
    processes: int = field(
        default=1,
        metadata=about(whole(1, 256), "How many processes, each with so many workers, run on this machine."),
    )
    webhook_url: ReceiverAddress | None = field(
        default=None, metadata=about(WEBHOOK_URL, "The one-channel short form: a channel named `webhook`.")
    )
    webhook_secret: Secret | None = field(
        default=None,
        metadata=about(WEBHOOK_SECRET, "Signs the requests to it (Standard Webhooks v1); none: not signed."),
    )
    in_doubt_policy: InDoubtPolicy = field(
        default="resend",
        metadata=about(POLICY, "What follows an attempt whose outcome nobody saw: the next one, or a human."),
    )
    block_s: float = field(
        default=2.0, metadata=about(seconds(high=3600), "How long one XREADGROUP waits for new entries.")
    )
    batch: int = field(default=100, metadata=about(whole(1, 20_000), "The most entries that one XREADGROUP takes."))
    redis_timeout_s: float = field(
        default=5.0,
        metadata=about(seconds(), "The longest wait for an answer of Redis; then the connection is dropped."),
    )
    store_timeout_s: float = field(
        default=10.0, metadata=about(seconds(), "The longest wait for an answer of the store.")
    )
    keepalive_s: float = field(
        default=10.0, metadata=about(seconds(), "How often an entry that is being worked on is renewed.")
    )
    claim_idle_s: float = field(
        default=45.0,
        metadata=about(seconds(), "An entry not renewed for so long is taken over; at least 3 times `keepalive_s`."),
    )
    claim_every_s: float = field(
        default=1.0, metadata=about(seconds(), "How often entries to take over are looked for.")
    )
    max_deliveries: int = field(
        default=5, metadata=about(whole(2, 1_000), "An entry handed out so often without an outcome is quarantined.")
    )
    quarantine_halt: int = field(
        default=50, metadata=about(whole(1, 1_000_000), "So many quarantined in a row stop the process, exit code 5.")
    )
    connect_timeout_s: float = field(
        default=5.0, metadata=about(seconds(), "The longest wait for a receiver's connection, per attempt.")
    )
    send_timeout_s: float = field(
        default=15.0, metadata=about(seconds(), "The longest wait for a receiver's answer, per attempt.")
    )
    retry_schedule_s: tuple[float, ...] = field(
        default=(5.0, 30.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0),
        metadata=about(SCHEDULE, "The waits after failed attempts, ± 20 %; after the last the alert is `failed`."),
    )
    redrive_every_s: float = field(default=2.0, metadata=about(seconds(), "How often due retries are looked for."))
    lease_s: float = field(
        default=60.0,
        metadata=about(
            seconds(),
            "How long a claim of a record holds; more than `connect_timeout_s` + `send_timeout_s`.",
        ),
    )
    grace_s: float = field(
        default=25.0, metadata=about(seconds(low=0), "How long running sends may take to finish after SIGTERM.")
    )
    start_from: Literal["refuse", "0", "now"] = field(
        default="refuse",
        metadata=about(
            choice("refuse", "0", "now"),
            "When the group must be created over more than 1,000 waiting entries: do not start (exit code 2), "
            "take all of them, or only what comes from now on.",
        ),
    )
    trim: Literal["off", "acked"] = field(
        default="off",
        metadata=about(choice("off", "acked"), "`acked`: trim from the stream what all its groups are done with."),
    )
    trim_keep_s: float = field(
        default=86_400.0, metadata=about(seconds(low=0), "Entries younger than this are never trimmed.")
    )
    networks: Networks = field(
        default="any",
        metadata=about(
            NETWORKS, "Where receivers may live; `any`: all but metadata, link-local and multicast addresses."
        ),
    )
    log_format: Literal["text", "json"] | None = field(
        default=None,
        metadata=about(choice("text", "json"), "What log lines look like.", "`text` in a terminal, else `json`"),
    )
    channels: tuple[ChannelSettings, ...] = ()  # the one that `webhook_url` makes, then those of `[[channels]]`
    routes: tuple[RouteSettings, ...] = ()

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The streams to read: `streams`, or the one `stream`."""
        return self.streams or (self.stream,)


Table = type[Settings] | type[ChannelSettings] | type[RouteSettings]


def describe(table: Table = Settings) -> dict[str, Setting]:
    """Describe every setting, or every key of a `[[channels]]` or `[[routes]]` table, by name and in order."""
    described = {}
    for one in fields(table):
        if not one.metadata:  # `channels` and `routes`: tables of their own
            continue
        value = one.default if one.default_factory is MISSING else one.default_factory()
        default = one.metadata["default"] or (None if value is MISSING else _in_words(value))
        described[one.name] = Setting(one.name, one.metadata["kind"], one.metadata["meaning"], default)
    return described


def settings_table(table: Table = Settings) -> str:
    """Write the Markdown table for the README."""
    lines = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in describe(table).values():
        meaning = setting.meaning + (f" Also as `{setting.name}_file`." if setting.kind.in_file else "")
        cells = (f"`{setting.name}`", setting.default or "must be given", setting.kind.allowed, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _in_words(value: object) -> str:
    match value:
        case None | () | {}:
            return "none"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}"
        case tuple():
            return ", ".join(_in_words(one) for one in value)
    return f"`{value}`"


def require_channels(settings: Settings) -> None:
    """Refuse to run without anybody to notify.

    Raises:
        SettingsError: There is no channel.
    """
    if not settings.channels:
        raise SettingsError(
            "no channel is configured, so nobody would be notified: set webhook_url "
            f"(environment variable {ENV_PREFIX}WEBHOOK_URL), or write a [[channels]] table into the TOML file"
        )


def warnings_about(settings: Settings) -> list[str]:
    """Say what is allowed but not wise, here and now: for the log at start, and for `check`."""
    found = [warning for channel in settings.channels for warning in channel.warnings()]
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < settings.workers + _OTHER_FILES:
        found.append(
            f"{settings.workers} workers may need more than {settings.workers + _OTHER_FILES} open files, and this "
            f"process gets {allowed}: raise the hard limit (`ulimit -Hn`, LimitNOFILE=, --ulimit nofile=)"
        )
    return found
