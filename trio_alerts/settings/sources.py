"""Where settings come from: options, the environment, a TOML file. Everything that is wrong is reported at once."""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trio_alerts.errors import SettingsError
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.kinds import read_secret_file
from trio_alerts.settings.settings import (
    DEFAULT_KIND,
    ENV_PREFIX,
    ChannelSettings,
    RouteSettings,
    Settings,
)
from trio_alerts.settings.tables import describe
from trio_alerts.text import did_you_mean, one_line

T = TypeVar("T", ChannelSettings, RouteSettings)

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
    if config is None and environ.get(f"{ENV_PREFIX}CONFIG"):
        config = Path(environ[f"{ENV_PREFIX}CONFIG"])
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
    values["routes"] = tuple(
        RouteSettings(**{"name": f"route-{number}", **table})
        for number, _, table in _read_tables(routes, lambda _: RouteSettings, f"{config}, [[routes]]", problems)
    )
    settings = Settings(**values)
    problems += [problem for names, problem in _contradictions(settings, given) if not names & wrong]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


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

    def of_kind(table: Mapping[str, Any]) -> type[ChannelSettings]:
        return channel_settings(table.get("kind", DEFAULT_KIND))

    for _, its_settings, table in _read_tables(tables, of_kind, where, problems):
        yield its_settings(**{"in_doubt_policy": policy, **table})


def _read_tables(
    tables: object, type_of: Callable[[Mapping[str, Any]], type[T]], where: str, problems: list[str]
) -> Iterator[tuple[int, type[T], dict[str, Any]]]:
    """Yield the number (from 1), the type and the values of each table that has no problem.

    `type_of` tells the type of a table, and raises ValueError for a `kind` that there is not.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{where}: this must be a list of tables, each under that heading in double brackets")
        return
    for number, table in enumerate(tables, 1):
        found: list[str] = []
        place = f"{where} number {number}"
        try:
            table_type = type_of(table)
        except ValueError as error:
            problems.append(f"kind: {_shortened(table['kind'])} from {place}: kind is not allowed; {error}")
            continue
        required = [name for name, setting in describe(table_type).items() if setting.default is None]
        given = _from_toml(table, table_type, place, found)
        values, _ = _values(given, table_type, found)
        found += [f"{place}: {name} is missing" for name in required if name not in given]
        problems += found
        if not found:
            yield number, table_type, values


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

    yield from _contradictions_of_channels(settings)

    redis_tls = settings.redis_url.tls
    store_tls = isinstance(settings.store_url, OpenSearchAddress) and settings.store_url.tls
    for name, other, wrong, rule in (
        ("streams", "stream", "stream" in given, "stream and streams exclude each other"),
        ("webhook_secret", "webhook_url", settings.webhook_url is None, "it does nothing without webhook_url"),
        ("redis_ca_file", "redis_url", not redis_tls, "it does nothing without TLS: redis_url must be rediss://"),
        ("store_ca_file", "store_url", not store_tls, "it does nothing without TLS: store_url must be https://"),
    ):
        if name in given and wrong:
            yield {name, other}, f"{name} ({given[name].origin}): {rule}"


def _contradictions_of_channels(settings: Settings) -> Iterator[tuple[set[str], str]]:
    networks = AllowedNetworks.of(settings.networks)
    for channel in settings.channels:
        for problem in channel.contradictions(networks):
            yield set(), f"channel {channel.name!r}: {problem}"

    for name, count in Counter(channel.name for channel in settings.channels).items():
        if count > 1:
            yield set(), f"two channels are named {name!r} (webhook_url makes one named 'webhook')"
