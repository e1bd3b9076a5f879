"""The settings: what each one means and what it may be. They are checked once, by `sources.py`, and passed in.

A setting is one field: its name, default, meaning and allowed values are stated there and nowhere else. Messages,
`--help` and `docs/settings.md` are made from them.
"""

import os
import resource
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from trio_alerts.errors import SettingsError
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import OpenSearchAddress, ReceiverAddress, RedisAddress, StoreAddress
from trio_alerts.settings.hosts import BindAddress
from trio_alerts.settings.kinds import (
    BIND,
    BURST,
    CA_FILE,
    CHANNEL_NAME,
    CONSOLE_TOKEN,
    FLAG,
    HEADER_NAME,
    INDEX,
    LISTED_NETWORKS,
    MATCH,
    NAME,
    NETWORKS,
    POLICY,
    RATE,
    REDIS_URL,
    SCHEDULE,
    STORE_URL,
    TEXT,
    WEBHOOK_SECRET,
    WEBHOOK_URL,
    WINDOWS,
    Networks,
    choice,
    list_of,
    seconds,
    whole,
)
from trio_alerts.settings.tables import about, setting

ENV_PREFIX = "TRIO_ALERTS_"

InDoubtPolicy = Literal["resend", "hold"]
DEFAULT_KIND = "webhook"  # of a channel that does not say

LONGEST_KEPT_S = 100 * 365 * 86_400

_OTHER_FILES = 64  # two for Redis, at most 32 for OpenSearch, the process's own


def make_up_consumer() -> str:
    """Return a name for this process that no other one has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_made_up(consumer: str) -> bool:
    """Tell whether this process made up a name, rather than having been given it."""
    return consumer.startswith(f"{socket.gethostname()}-{os.getpid()}-")


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """One way to reach people: a `[[channels]]` table of the TOML file. Each kind of channel adds its own keys."""

    name: str = field(metadata=about(CHANNEL_NAME, "The name of the channel in routes, records and logs."))
    kind: str = setting(DEFAULT_KIND, NAME, "The kind of channel.")
    aliases: tuple[str, ...] = setting(
        (),
        list_of(CHANNEL_NAME, "a list of channel names"),
        "Other names by which records may know it: what is under way keeps its way when a channel is renamed.",
    )
    in_doubt_policy: InDoubtPolicy = setting(
        "resend", POLICY, "Like the setting of that name, for this channel.", "the setting `in_doubt_policy`"
    )
    rate_per_s: float | None = setting(
        None, RATE, "How many alerts a second it takes in the long run, from all processes together; the others wait."
    )
    burst: int | None = setting(None, BURST, "How many it takes at once after a quiet time.", "1, with `rate_per_s`")

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its aliases."""
        return (self.name, *self.aliases)

    @property
    def destination(self) -> str:
        """Where it sends to, for the log at start: without secrets."""
        return self.kind

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:  # noqa: ARG002
        """Say what is wrong between keys that are right by themselves."""
        return iter(())

    def warnings(self) -> Iterator[str]:
        """Say what is allowed but not wise."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class RouteSettings:
    """Which alerts go where: a `[[routes]]` table of the TOML file. The first route that matches an alert decides.

    A matcher or window is checked where it is used, by `routing/`.
    """

    name: str = field(metadata=about(NAME, "The name of the route in records and messages.", "`route-` and its number"))
    match: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=about(
            MATCH,
            "Which alerts: each field must have one of the values given for it. Also `labels.NAME`, and "
            '`severity = ">=high"`. None: every alert matches.',
        ),
    )
    matchers: tuple[str, ...] = setting(
        (),
        list_of(TEXT, "a list of matchers"),
        'Which alerts, too: all of these must hold, such as `severity >= high`, `scope != "staging*"` or '
        "`labels.team in [treasury, lending]`; see [routing](routing.md).",
    )
    active: tuple[Mapping[str, object], ...] = setting(
        (),
        WINDOWS,
        "When: outside of these windows the route does not match; see [routing](routing.md#time-windows).",
        "always",
    )
    channels: tuple[str, ...] = setting((), list_of(CHANNEL_NAME, "a list of channel names"), "Where the alert goes.")
    fallback: tuple[str, ...] = setting(
        (),
        list_of(CHANNEL_NAME, "a list of channel names"),
        "Where it goes if none of `channels` accepts it in time; see [routing](routing.md#fallbacks).",
    )
    fallback_after_s: float | None = setting(
        None,
        seconds(),
        "How long `channels` have, before the alert goes to `fallback` as well; if all of them fail, it goes at once.",
        "300",
    )
    continues: bool = setting(
        False,
        FLAG,
        "Ask the routes after it as well: the alert goes to the channels of all that match.",
        name="continue",
    )
    suppress: bool = setting(False, FLAG, "Record the alert as `suppressed`, and send nothing.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be configured. `load_settings` checks it; one that is built directly is trusted."""

    redis_url: RedisAddress = setting(
        RedisAddress("127.0.0.1"), REDIS_URL, "The Redis or Valkey server that holds the stream.", section="Redis"
    )
    redis_ca_file: Path | None = setting(
        None, CA_FILE, "The CA certificates (PEM) to trust for Redis, instead of the system's."
    )
    redis_timeout_s: float = setting(
        5.0, seconds(), "How long to wait for an answer from Redis before dropping the connection."
    )
    stream: str = setting("AlertStream", NAME, "The stream to read.")
    streams: tuple[str, ...] = setting(
        (), list_of(NAME, "a list of names"), "The parts of a partitioned stream, instead of `stream`."
    )
    group: str = setting(
        "alert-processor", NAME, "The consumer group; processes in one group share the work.", section="Consumer group"
    )
    consumer: str = field(
        default_factory=make_up_consumer,
        metadata=about(NAME, "The name of this process in the group; it must be unique.", "host-pid-random"),
    )
    start_from: Literal["refuse", "0", "now"] = setting(
        "refuse",
        choice("refuse", "0", "now"),
        "What to do if the group must be created while more than 1,000 entries are waiting: refuse to start (exit code "
        "2), take them all, or take only new ones.",
    )
    store_url: StoreAddress = setting(
        OpenSearchAddress(("http://127.0.0.1:9200",)),
        STORE_URL,
        "Where records are kept: OpenSearch, or an SQLite file.",
        section="Store",
    )
    store_ca_file: Path | None = setting(None, CA_FILE, "The CA certificates (PEM) to trust for OpenSearch.")
    store_timeout_s: float = setting(10.0, seconds(), "How long to wait for an answer from the store.")
    index: str = setting("alerts", INDEX, "The alias of the index; the index behind it is called `<alias>-000001`.")
    workers: int = setting(16, whole(1, 20_000), "How many alerts a process works on at once.", section="Workers")
    processes: int = setting(
        1, whole(1, 256), "How many processes to run on this machine, each with that many workers."
    )
    batch: int = setting(100, whole(1, 20_000), "The most entries to take by one XREADGROUP.")
    block_s: float = setting(2.0, seconds(high=3600), "How long one XREADGROUP waits for new entries.")
    grace_s: float = setting(25.0, seconds(low=0), "How long running sends may take to finish after SIGTERM.")
    keepalive_s: float = setting(
        10.0,
        seconds(),
        "How often to renew the entries that are being worked on.",
        section="Crashes and poison entries",
    )
    claim_idle_s: float = setting(
        45.0, seconds(), "An entry that was not renewed for this long is taken over; at least 3 times `keepalive_s`."
    )
    claim_every_s: float = setting(1.0, seconds(), "How often to look for entries to take over.")
    max_deliveries: int = setting(
        5, whole(2, 1_000), "An entry that was delivered this often without an outcome is quarantined."
    )
    quarantine_halt: int = setting(
        50, whole(1, 1_000_000), "This many quarantined entries in a row stop the process (exit code 5)."
    )
    webhook_url: ReceiverAddress | None = setting(
        None, WEBHOOK_URL, "Where to post alerts: makes a channel named `webhook`.", section="Delivery"
    )
    webhook_secret: Secret | None = setting(
        None, WEBHOOK_SECRET, "Signs the requests to `webhook_url` (Standard Webhooks v1); none: not signed."
    )
    in_doubt_policy: InDoubtPolicy = setting(
        "resend", POLICY, "After an attempt whose outcome is unknown: send again, or hold it for a human."
    )
    connect_timeout_s: float = setting(5.0, seconds(), "How long an attempt waits for a connection to the receiver.")
    send_timeout_s: float = setting(15.0, seconds(), "How long an attempt waits for the receiver's answer.")
    networks: Networks = setting(
        "any", NETWORKS, "Where receivers may be; `any`: everywhere but metadata, link-local and multicast addresses."
    )
    retry_schedule_s: tuple[float, ...] = setting(
        (5.0, 30.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0),
        SCHEDULE,
        "The waits between attempts, ± 20 %; after the last one the alert is `failed`.",
        section="Retries",
    )
    redrive_every_s: float = setting(2.0, seconds(), "How often to ask for retries that other processes have noted.")
    lease_s: float = setting(
        60.0, seconds(), "How long a claim on a record holds; more than `connect_timeout_s` + `send_timeout_s`."
    )
    trim: Literal["off", "acked"] = setting(
        "off",
        choice("off", "acked"),
        "`acked`: trim entries from the stream that all its groups have acknowledged.",
        section="Trimming, retention and log",
    )
    trim_keep_s: float = setting(86_400.0, seconds(low=0), "Entries younger than this are never trimmed.")
    keep_records_s: float | None = setting(
        None,
        seconds(high=LONGEST_KEPT_S),
        "Records that are settled, older than this, and whose entries have left the stream are deleted; see "
        "[retention](operations.md#retention).",
        "for ever",
    )
    log_format: Literal["text", "json"] | None = setting(
        None, choice("text", "json"), "The format of log lines.", "`text` in a terminal, else `json`"
    )
    http_bind: BindAddress | None = setting(
        None,
        BIND,
        "Where `run` serves `/healthz`, `/readyz` and `/metrics`; see [monitoring](monitoring.md). It asks for no "
        "password: let only your own machines reach it.",
        section="Monitoring",
    )
    canary_every_s: float | None = setting(
        None,
        seconds(low=5),
        "How often a canary, an alert for nobody, is sent the whole way; `/readyz` and `/metrics` say how old the last "
        "one is that came through. See [monitoring](monitoring.md#the-canary).",
        "none",
    )
    console_token: Secret | None = setting(
        None,
        CONSOLE_TOKEN,
        "Who has it may use the console. Without it and `console_user_header`, the console is for this machine alone.",
        section="Console",
    )
    console_user_header: str | None = setting(
        None, HEADER_NAME, "The header in which a proxy names the user that it has signed in, such as X-Forwarded-User."
    )
    console_networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        (), LISTED_NETWORKS, "Where that proxy is; from anywhere else, `console_user_header` means nothing."
    )
    channels: tuple[ChannelSettings, ...] = ()  # the one that `webhook_url` makes, then those of `[[channels]]`
    routes: tuple[RouteSettings, ...] = ()

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The streams to read: `streams`, or the one `stream`."""
        return self.streams or (self.stream,)

    @property
    def holding_channels(self) -> frozenset[str]:
        """The channels, by each of their names, whose unseen outcomes wait for a human."""
        holding = (channel for channel in self.channels if channel.in_doubt_policy == "hold")
        return frozenset(name for channel in holding for name in channel.names)


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
