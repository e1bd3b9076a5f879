"""Where settings come from: options, the environment, a TOML file. Everything that is wrong is reported at once."""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trio_alerts.backoff import JITTER
from trio_alerts.errors import SettingsError
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.record_ids import CANARIES
from trio_alerts.secret import read_secret_file
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.settings import (
    DEFAULT_KIND,
    ENV_PREFIX,
    ChannelSettings,
    RouteSettings,
    Settings,
)
from trio_alerts.settings.tables import describe
from trio_alerts.text import did_you_mean, one_line

_LONGEST_NAME = 100  # characters of an unknown name that are shown
# Not settings: what tests and fault injection use, and what Kubernetes injects for a service named "trio-alerts".
_NOT_SETTINGS = re.compile(r"FAULT|CONFIG|TEST_.*|SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_.*")


def load_settings(
    options: Mapping[str, str],
    environ: Mapping[str, str],
    config: Path | None,
    channel_settings: Callable[[str], type[ChannelSettings]],
) -> Settings:
    """Read the settings from all their sources and check them. Strongest first: options, environment, file, defaults.

    An environment variable that is empty counts as not set: compose files pass on what nobody filled in. Relative paths
    are relative to the working directory.

    Args:
        options: From the command line, by the name of the setting (`claim_idle_s`).
        environ: The environment; of it, what starts with `TRIO_ALERTS_`.
        config: The TOML file; if None, the one that `TRIO_ALERTS_CONFIG` names.
        channel_settings: Returns the settings class of a kind of channel; raises ValueError, which names the kinds.

    Raises:
        SettingsError: With everything that is wrong, one problem a line, without any secret.
    """
    problems: list[str] = []
    config = settings_file(config, environ)
    document = _read_toml(config, problems) if config else {}
    channels, routes = document.pop("channels", []), document.pop("routes", [])

    given = (
        _from_toml(document, Settings, str(config), problems)
        | _from_environ(environ, problems)
        | _from_options(options, problems)
    )
    values, wrong = _values(given, Settings, problems)
    where = f"{config}, [[channels]]"
    values["channels"] = tuple(_channels(channels, values, channel_settings, where, problems))
    values["routes"] = tuple(_routes(routes, f"{config}, [[routes]]", problems))
    settings = Settings(**values)
    problems += [problem for names, problem in _contradictions(settings, given) if not names & wrong]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def settings_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the TOML file: the one that was given, or else the one that the environment names, if any."""
    named = environ.get(f"{ENV_PREFIX}CONFIG")
    return Path(named) if config is None and named else config


@dataclass(frozen=True)
class _Given:
    """A value as a source gives it."""

    raw: object
    origin: str  # such as "environment variable TRIO_ALERTS_WORKERS"
    is_text: bool = False  # options and the environment give text, TOML gives values
    is_file: bool = False  # the value is the path of a file that holds the secret


def _from_options(options: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    return _from_source(
        options, _spellings(Settings), lambda name: f"option --{name.replace('_', '-')}", problems, is_text=True
    )


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    spellings = {name.upper(): target for name, target in _spellings(Settings).items()}
    ours = {name.removeprefix(ENV_PREFIX): text for name, text in environ.items() if name.startswith(ENV_PREFIX)}
    meant = {
        name: text
        for name, text in ours.items()
        if not _NOT_SETTINGS.fullmatch(name) and (text or name not in spellings)
    }
    return _from_source(
        meant, spellings, lambda name: f"environment variable {ENV_PREFIX}{name}", problems, is_text=True
    )


def _from_toml(source: Mapping[str, object], table: type[Any], where: str, problems: list[str]) -> dict[str, _Given]:
    return _from_source(source, _spellings(table), lambda name: f"{where}: {name}", problems, is_text=False)


def _spellings(table: type[Any]) -> dict[str, tuple[str, bool]]:
    """Map every accepted name to its setting, and to whether it names a file that holds the value."""
    return {name: (one.name, name != one.name) for one in describe(table).values() for name in one.spellings}


def _from_source(
    source: Mapping[str, object],
    spellings: Mapping[str, tuple[str, bool]],
    label: Callable[[str], str],
    problems: list[str],
    *,
    is_text: bool,
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for key, raw in source.items():
        if key not in spellings:
            shown = one_line(key[:_LONGEST_NAME])
            hint = did_you_mean(shown, spellings, lambda name: label(name).rpartition(" ")[2])
            problems.append(f"{label(shown)}: there is no such setting{hint}")
            continue
        name, is_file = spellings[key]
        if name in given:
            problems.append(f"{name}: given twice, by {given[name].origin} and by {label(key)}; keep one")
        given[name] = _Given(raw, label(key), is_text, is_file)
    return given


def _values(given: Mapping[str, _Given], table: type[Any], problems: list[str]) -> tuple[dict[str, Any], set[str]]:
    """Check each value by itself; return the good ones, and the names of the others."""
    values: dict[str, Any] = {}
    settings = describe(table)
    for name, one in given.items():
        kind = settings[name].kind
        try:
            raw = read_secret_file(one.raw) if one.is_file else one.raw
            values[name] = kind.check(kind.from_text(raw) if one.is_text and isinstance(raw, str) else raw)
        except OSError as error:
            # What is not an absolute path may be the secret itself, in the wrong variable.
            path = one.raw if str(one.raw).startswith("/") else "the file"
            problems.append(f"{name}: cannot read {path} that {one.origin} names: {error.strerror}")
        except (ValueError, RecursionError) as error:  # tables in tables can be as deep as a file is long
            shown = "the value" if kind.secret else _shortened(one.raw)
            detail = f" ({error})" if str(error) else ""
            problems.append(f"{name}: {shown} from {one.origin} is not allowed{detail}; it must be {kind.allowed}")
    return values, given.keys() - values.keys()


def _shortened(raw: object, limit: int = 100) -> str:
    try:
        shown = repr(raw)
    except (ValueError, RecursionError):  # a number of thousands of digits, tables in tables in tables
        return "the value"
    if "://" in shown or "whsec_" in shown:  # a secret in the wrong setting is still a secret
        return "the value"
    return shown if len(shown) <= limit else shown[:limit] + "…"


def _read_toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot read the settings: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8 text at byte {error.start}")
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and lists as deep
        problems.append(f"{path}: not valid TOML: {error}")
    return {}


def _channels(
    tables: object,
    values: Mapping[str, Any],
    channel_settings: Callable[[str], type[ChannelSettings]],
    where: str,
    problems: list[str],
) -> Iterator[ChannelSettings]:
    """Yield the channel that `webhook_url` makes, if it is set, then those of `[[channels]]`."""
    policy = values.get("in_doubt_policy", Settings.in_doubt_policy)
    if "webhook_url" in values:
        short_form = {"name": "webhook", "url": values["webhook_url"], "secret": values.get("webhook_secret")}
        yield channel_settings("webhook")(in_doubt_policy=policy, **short_form)

    for _, place, table in _tables(tables, where, problems):
        try:
            its_settings = channel_settings(table.get("kind", DEFAULT_KIND))
        except ValueError as error:
            problems.append(f"kind: {_shortened(table['kind'])} from {place}: kind is not allowed; {error}")
            continue
        keys = _keys(table, its_settings, place, problems)
        if keys is not None:
            yield its_settings(**{"in_doubt_policy": policy, **keys})
        elif "kind" not in table:
            problems[-1] += f"; without kind it is a {DEFAULT_KIND}"


def _routes(tables: object, where: str, problems: list[str]) -> Iterator[RouteSettings]:
    for number, place, table in _tables(tables, where, problems):
        keys = _keys(table, RouteSettings, place, problems)
        if keys is not None:
            yield RouteSettings(**{"name": f"route-{number}", **keys})


def _tables(tables: object, where: str, problems: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the number of each table, from 1, how messages name its place, and the table."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{where}: this must be a list of tables, each under that heading in double brackets")
        return
    for number, table in enumerate(tables, 1):
        yield number, f"{where} number {number}", table


def _keys(table: dict[str, Any], kind: type[Any], place: str, problems: list[str]) -> dict[str, Any] | None:
    """Return the values in a table by their attributes, or None if anything is wrong with it."""
    before = len(problems)
    given = _from_toml(table, kind, place, problems)
    values, _ = _values(given, kind, problems)
    described = describe(kind)
    required = [name for name, setting in described.items() if setting.default is None]
    problems += [f"{place}: {name} is missing" for name in required if name not in given]
    return {described[name].attribute: value for name, value in values.items()} if len(problems) == before else None


def _contradictions(settings: Settings, given: Mapping[str, _Given]) -> Iterator[tuple[set[str], str]]:
    """Yield what is wrong between settings that are right by themselves: the settings concerned, and the rule."""

    def say(name: str) -> str:
        origin = given[name].origin if name in given else "default"
        return f"{name} ({getattr(settings, name):g}, {origin})"

    # Compared with a tolerance: 3 * 0.1 is a little more than 0.3.
    least_s = 3 * settings.keepalive_s
    if settings.claim_idle_s < least_s and not math.isclose(settings.claim_idle_s, least_s):
        rule = f"{say('claim_idle_s')} must be at least 3 times {say('keepalive_s')}"
        yield {"claim_idle_s", "keepalive_s"}, f"{rule}: otherwise live workers lose their entries"

    attempt_s = settings.connect_timeout_s + settings.send_timeout_s
    if settings.lease_s < attempt_s or math.isclose(settings.lease_s, attempt_s):
        rule = f"{say('lease_s')} must be more than {say('connect_timeout_s')} + {say('send_timeout_s')}"
        names = {"lease_s", "connect_timeout_s", "send_timeout_s"}
        yield names, f"{rule}: otherwise a claim expires while its attempt is running"

    yield from _too_short_retention(settings, say)
    yield from _contradictions_of_channels(settings)

    redis_tls = settings.redis_url.tls
    store_tls = isinstance(settings.store_url, OpenSearchAddress) and settings.store_url.tls
    for name, other, wrong, rule in (
        ("streams", "stream", "stream" in given, "stream and streams exclude each other"),
        ("webhook_secret", "webhook_url", settings.webhook_url is None, "it does nothing without webhook_url"),
        ("redis_ca_file", "redis_url", not redis_tls, "it does nothing without TLS: redis_url must be rediss://"),
        ("store_ca_file", "store_url", not store_tls, "it does nothing without TLS: store_url must be https://"),
        ("canary_every_s", "http_bind", settings.http_bind is None, "nobody would see it without http_bind"),
        (
            "console_user_header",
            "console_networks",
            not settings.console_networks,
            "anybody could send it; say in console_networks where the proxy is that does",
        ),
        (
            "console_networks",
            "console_user_header",
            settings.console_user_header is None,
            "it does nothing without console_user_header",
        ),
    ):
        if name in given and wrong:
            yield {name, other}, f"{name} ({given[name].origin}): {rule}"

    for name in settings.streams:
        if (tagged := f"{{{name}}}") in settings.streams:
            rule = f"{name!r} and {tagged!r} would share their keys in Redis, dead letters included"
            yield {"streams"}, f"streams ({given['streams'].origin}): {rule}"
        if f"{name}|".startswith(CANARIES):
            rule = f"{name!r} would make records look like those of canaries"
            yield {"streams"}, f"streams ({given['streams'].origin}): {rule}"


def _too_short_retention(settings: Settings, say: Callable[[str], str]) -> Iterator[tuple[set[str], str]]:
    """Yield what lasts longer than records are to be kept: an alert must not outlive its record."""
    keep_s = settings.keep_records_s
    if keep_s is None:
        return
    retried_s = (1 + JITTER) * sum(settings.retry_schedule_s)
    delivered_s = settings.max_deliveries * settings.claim_idle_s
    trimmed_s = settings.trim_keep_s if settings.trim == "acked" else 0.0
    for least_s, names, why in (
        (retried_s, {"retry_schedule_s"}, "retry_schedule_s may last that long"),
        (delivered_s, {"max_deliveries", "claim_idle_s"}, "max_deliveries times claim_idle_s may take that long"),
        (trimmed_s, {"trim", "trim_keep_s"}, "trim_keep_s keeps entries in the stream for that long"),
    ):
        if keep_s < least_s:
            yield {"keep_records_s", *names}, f"{say('keep_records_s')} must be at least {least_s:,g}: {why}"


def _contradictions_of_channels(settings: Settings) -> Iterator[tuple[set[str], str]]:
    networks = AllowedNetworks.of(settings.networks)
    for channel in settings.channels:
        for problem in channel.contradictions(networks):
            yield set(), f"channel {channel.name!r}: {problem}"
        if channel.burst is not None and channel.rate_per_s is None:
            yield set(), f"channel {channel.name!r}: burst does nothing without rate_per_s"

    names = Counter(channel.name for channel in settings.channels)
    for name, count in names.items():
        if count > 1:
            by_url = settings.webhook_url is not None and name == "webhook"
            which = " (webhook_url makes one of them)" * by_url
            yield set(), f"{count} channels are named {name!r}{which}; each needs a name of its own"
    owners: dict[str, str] = {name: name for name in names}
    for channel in settings.channels:
        for alias in channel.aliases:
            other = owners.setdefault(alias, channel.name)
            if alias in names or other != channel.name:
                whose = "its own name" if other == channel.name else f"a name of channel {other!r}, too"
                yield set(), f"channel {channel.name!r}: the alias {alias!r} is {whose}; remove it"
