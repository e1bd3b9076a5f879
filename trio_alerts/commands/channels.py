"""`channels`: which there are, and a test message through one of them."""

import argparse
import datetime as dt
import sys

import msgspec
import trio

from trio_alerts.assembly import make_channel, make_transport
from trio_alerts.channels.registry import KINDS
from trio_alerts.commands.alert_input import read_input
from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json, print_rows
from trio_alerts.errors import SettingsError
from trio_alerts.operations.alert_file import read_alerts
from trio_alerts.operations.trial import Trial, send_trial, trial_message
from trio_alerts.outcome import Accepted
from trio_alerts.settings.settings import ChannelSettings, Settings
from trio_alerts.text import did_you_mean, one_line

COLUMNS = ("channel", "kind", "destination")
MAY_BE_CUT = {"destination": 1}


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.action == "list":
        if arguments.name or arguments.alert:
            raise SettingsError("`channels` lists all of them; `channels test NAME` sends a test message")
        _list(settings, as_json=arguments.json)
        return 0
    channel = _named(arguments.name, settings)
    payload = _example() if arguments.alert is None else _read(arguments.alert)
    return _report(trio.run(_test, channel, payload, settings), as_json=arguments.json)


def _list(settings: Settings, *, as_json: bool) -> None:
    channels = [(one.name, one.kind, one.destination) for one in settings.channels]
    if as_json:
        print_json({"kinds": KINDS, "channels": [dict(zip(COLUMNS, one, strict=True)) for one in channels]})
        return
    sys.stdout.write(f"kinds: {', '.join(KINDS)}\n")
    print_rows(COLUMNS, [tuple(map(one_line, one)) for one in channels], MAY_BE_CUT, ("channel", "channels"))


def _named(name: str | None, settings: Settings) -> ChannelSettings:
    if name is None:
        raise SettingsError("name one channel, as in `channels test pager`; `channels` lists them")
    found = next((one for one in settings.channels if one.name == name), None)
    if found is None:
        names = [one.name for one in settings.channels]
        known = f"the channels are {', '.join(names)}" if names else "none is configured"
        raise SettingsError(f"there is no channel {name!r}{did_you_mean(name, names)}; {known}")
    return found


def _read(file: str) -> bytes:
    alerts, problems = read_alerts(read_input(file))
    if problems:
        raise SettingsError(f"{file}: {problems[0].place}: {problems[0].reason}")
    if len(alerts) != 1:
        raise SettingsError(f"{file} must hold one alert; it holds {len(alerts):,}")
    return alerts[0].payload


def _example() -> bytes:
    """Return the alert of a test that names none: the least severe there is, with a text that needs escaping."""
    return msgspec.json.encode(
        {
            "alert_id": "trio-alerts-test",
            "rule_id": "channels-test",
            "view": "test",
            "scope": "test",
            "severity": "info",
            "title": "this channel works",
            "occurred_at": dt.datetime.now(dt.UTC),
            "description": "Sent by `trio-alerts channels test`. Readable as it is: <b>&amp;</b> *bold* Zürich 💥",
        }
    )


async def _test(settings_of_one: ChannelSettings, payload: bytes, settings: Settings) -> Trial:
    async with make_transport(settings) as transport:
        channel = make_channel(settings_of_one, transport, lambda: dt.datetime.now(dt.UTC))
        return await send_trial(channel, trial_message(payload, settings.send_timeout_s))


def _report(trial: Trial, *, as_json: bool) -> int:
    """Print what was sent, what was answered, and the verdict; return the exit code."""
    outcome = trial.outcome
    accepted = isinstance(outcome, Accepted)
    if as_json:
        print_json(
            {
                "accepted": accepted,
                "verdict": trial.verdict,
                "status": outcome.status,
                "answer": outcome.answer,
                "reference": outcome.reference,
                "request": trial.request,
            }
        )
        return 0 if accepted else 1
    lines = [one_line(line) for line in trial.request.split("\n")]
    status, answer = str(outcome.status or ""), one_line(outcome.answer)
    if not answer.startswith(status):  # a mail server's answer does
        answer = f"{status} {answer}".rstrip()
    sys.stdout.write("request:\n" + "".join(f"  {line}\n" for line in lines))
    sys.stdout.write(f"answer:\n  {answer or 'none'}\n")
    if outcome.reference:
        sys.stdout.write(f"reference:\n  {one_line(outcome.reference)}\n")
    sys.stdout.write(f"verdict: {one_line(trial.verdict)}\n")
    return 0 if accepted else 1


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "test"), default="list", help="what to do (default: list)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", default=None, help="test: the channel to send through")
    parser.add_argument(
        "--alert",
        metavar="FILE",
        default=None,
        help="test: the alert in this file instead of an example; -: standard input",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
  channels [list]     lists the kinds of channels, and the channels that are configured
  channels test NAME  sends one message through a channel, as an alert would go; its title says that it is a test

`test` prints the request without secrets, the answer, and the verdict. Nothing is recorded or tried again, and neither
Redis nor the store is asked. PagerDuty opens an incident of its own for it: resolve it there.

Exit code 1: the test message was not accepted; 2: bad usage, or there is no such channel.""",
    examples=(
        "channels --config alerts.toml",
        "channels test pager --config alerts.toml",
        "channels test desk --alert examples/alert.json",
    ),
    json="one object",
    operands=("[list|test]", "[NAME]"),
    add_options=_add_options,
    settings=("Delivery",),
)
