"""The command line: arguments to settings to a command, and what ends it to an exit code."""

import sys

from trio_alerts.stop_signals import EARLY, child_number

EARLY.catch(sys.argv)  # before everything that takes time: from here on a signal is a clean stop

import os
import traceback
from collections.abc import Sequence
from functools import partial

from loguru import logger

from trio_alerts.channels.registry import channel_settings
from trio_alerts.commands.arguments import PROGRAM, Call, parse_arguments
from trio_alerts.commands.failure import Failure, explain
from trio_alerts.log import LogFormat, print_error, set_up_logging
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.sources import load_settings, settings_file


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The arguments; those of the process if None.
    """
    _survive_any_text()
    argv = sys.argv[1:] if argv is None else argv
    log_format: LogFormat = "text"
    if "--json" in argv:  # so is what is wrong with the arguments
        log_format = "json"
        set_up_logging(log_format)
    try:
        call = parse_arguments(argv)
        call.arguments.read_settings = partial(load_settings, call.options, os.environ, call.config, channel_settings)
        call.arguments.settings_file = settings_file(call.config, os.environ)
        settings = _shared_by_our_parent() or call.arguments.read_settings()
        log_format = _log_format(call, settings)
        if not call.command.service:
            EARLY.release()
        set_up_logging(log_format, call.log_level)
        return call.command.execute(call.arguments, settings)
    except SystemExit as done:  # --help and --version
        return done.code if isinstance(done.code, int) else 0
    except BrokenPipeError:  # stdout: trio has its own error for sockets
        return 0  # whoever reads, such as `head`, has seen enough
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001, the end of the line
        failure = explain(error)
        _report(failure, error, log_format)
        return failure.exit_code
    finally:
        EARLY.ignore()
        logger.remove()  # writes what is left
        _flush_stdout()


def _shared_by_our_parent() -> Settings | None:
    """Return the settings that a child of a `Family` has in common with the others; None: this is no such child."""
    if child_number() is None:
        return None
    from trio_alerts.shared_settings import inherited_settings  # noqa: PLC0415 - it takes time, and few need it

    shared = inherited_settings()
    return shared and shared.settings


def _log_format(call: Call, settings: Settings) -> LogFormat:
    """Return the format to use: by default JSON only for a service whose log is read by a machine."""
    if call.arguments.json:
        return "json"
    if settings.log_format is not None:
        return settings.log_format
    return "json" if call.command.service and not sys.stderr.isatty() else "text"


def _report(failure: Failure, error: BaseException, log_format: LogFormat) -> None:
    if not failure.message:
        return
    if log_format == "json":
        logger.opt(exception=error if failure.is_bug else None).error(
            "{error}", error=failure.message, exit_code=failure.exit_code, kind=failure.kind
        )
        return
    trace = "".join(traceback.format_exception(error)) if failure.is_bug else ""
    print_error(f"{trace}{PROGRAM}: {failure.message}\n")


def _survive_any_text() -> None:
    """Let a locale that lacks a character never end a command."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush_stdout() -> None:
    """Write what is left; if nobody reads it, keep the interpreter from trying again when it ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
