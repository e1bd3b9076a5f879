"""`console`: the operators' pages and their API."""

import argparse

import trio
from loguru import logger

from trio_alerts import __version__
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.errors import SettingsError
from trio_alerts.pipeline.service import watch_signals
from trio_alerts.settings.hosts import BindAddress, parse_bind_address
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records

DEFAULT_BIND = "127.0.0.1:8081"
GRACE_S = 3.0  # for what is being answered at a stop


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        address = parse_bind_address(arguments.bind)
    except ValueError as fault:
        raise SettingsError(f"--bind {arguments.bind!r}: {fault}; use ADDRESS:PORT, as in {DEFAULT_BIND}") from None
    is_protected = settings.console_token is not None or settings.console_user_header is not None
    if not (address.ip.is_loopback or is_protected):
        raise SettingsError(
            f"--bind {address} is not for this machine alone, so the console must know its visitors: set "
            "console_token, or console_user_header and console_networks; or bind it to 127.0.0.1"
        )
    trio.run(_run, address, arguments.read_only, settings)
    return 0


async def _run(address: BindAddress, read_only: bool, settings: Settings) -> None:
    # Imported here: what serves takes a fifth of a second, for which `--help` need not wait.
    from trio_alerts.web.console import make_console  # noqa: PLC0415
    from trio_alerts.web.desk import Desk  # noqa: PLC0415
    from trio_alerts.web.serve import bind, serve  # noqa: PLC0415

    with bind(address, "--bind") as listener:
        async with trio.open_nursery() as nursery, open_records(settings) as store:
            desk = Desk(settings, store)
            await nursery.start(watch_signals, desk.stopping.set)
            await nursery.start(desk.reach_redis)
            where = f"http://{address}{', read-only' if read_only else ''}"
            logger.info(
                "trio-alerts {version}: the console is at {_where}",
                version=__version__,
                address=str(address),
                _where=where,
            )
            app = make_console(desk, read_only=read_only)
            await serve(app, listener, desk.stopping, GRACE_S)  # type: ignore[arg-type] # ASGI, typed by another library
            nursery.cancel_scope.cancel()


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bind", metavar="ADDRESS:PORT", default=DEFAULT_BIND, help=f"where to listen (default: {DEFAULT_BIND})"
    )
    add_flag(parser, "--read-only", "show everything, change nothing")


COMMAND = Command(
    execute=_execute,
    about="""\
Serves pages for a browser: records with filters, every attempt of every channel, and, each after a preview, redeliver,
resolve, silence, replay and drop. It runs until SIGTERM and keeps nothing itself: start as many as you like. It needs
the store; what is in Redis is shown as long as Redis answers.

Who may use it: whoever has console_token (as a bearer token, or through the sign-in form), or whom a proxy in
console_networks names in console_user_header. Without either it is for this machine alone, and binds to loopback only.

Exit code 2: bad usage, or it would be open to everybody; 3 and 4 as for `list`.""",
    examples=(
        "console",
        "console --read-only --bind 127.0.0.1:9000",
        "console --bind 0.0.0.0:8081 --console-token-file /run/secrets/console-token",
    ),
    json="the same as --log-format json",
    add_options=_add_options,
    settings=("Redis", "group", "Store", "Console", "log_format"),
    service=True,
)
