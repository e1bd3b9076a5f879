"""The commands, one a file. A file is imported when its command is called: `list` needs nothing of Redis."""

from importlib import import_module

from trio_alerts.commands.command import Command

# By name: the module, and what the command does in a sentence.
COMMANDS = {
    "run": ("run", "Deliver alerts: read the stream, keep a record of each alert, and notify people."),
    "demo": ("demo", "Watch it work: an embedded server, a store, slow receivers, and a crash in the middle."),
    "emit": ("emit", "Validate alerts and write them to the stream."),
    "check": ("check", "Find everything that `run` would refuse, without consuming or creating anything."),
    "route": ("route", "Show where alerts from a file would go, and why."),
    "channels": ("channels", "List channels; send a test message through one."),
    "list": ("list_records", "List records, the newest first."),
    "show": ("show", "Show one record: the alert, and everything that happened to it."),
    "redeliver": ("redeliver", "Send undelivered alerts again."),
    "resolve": ("resolve", "Settle an alert that is in doubt, once you know whether it arrived."),
    "silence": ("silence", "Keep alerts from being sent for a time; list, end or preview silences."),
    "dead": ("dead", "Inspect dead letters; replay or drop them."),
    "console": ("console", "Serve the operators' pages and their API: find, send again, resolve, silence."),
    "stats": ("stats", "Show how things stand: what waits, what failed, what was lost."),
    "migrate": ("migrate", "Move all records to a new index, with every process running."),
    "adopt": ("adopt", "Take over a store that belongs to another deployment."),
    "schema": ("schema", "Print JSON Schema, for producers and editors."),
    "completion": ("completion", "Complete commands and options in your shell."),
    "audit": ("audit", "Account for every alert that was ever seen."),
}


def load_command(name: str) -> Command:
    """Import the file of a command."""
    command: Command = import_module(f"{__name__}.{COMMANDS[name][0]}").COMMAND
    return command
