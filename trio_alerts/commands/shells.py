"""Completion for shells, from the parsers: scripts that need no start of the program to complete a word. Pure."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from trio_alerts.commands import COMMANDS, load_command
from trio_alerts.commands.arguments import PROGRAM, command_parser, front_parser
from trio_alerts.operations.filters import FILTERS
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.tables import describe

FILE = "FILE"  # what an option or operand that takes a path is called in `--help`


@dataclass(frozen=True, slots=True)
class Completed:
    """An option, or an operand, which has no names.

    Args:
        names: By which it is given.
        about: What it does.
        value: What it takes, as its help calls it; empty: nothing.
        choices: All the values that it may have; empty: any.
        repeats: It may be given more than once.
    """

    names: tuple[str, ...]
    about: str
    value: str
    choices: tuple[str, ...]
    repeats: bool


def completed_commands() -> Mapping[str, list[Completed]]:
    """Return what each command takes, as its help explains it; and, by an empty name, what stands before commands."""
    parsers = {"": front_parser(), **{name: command_parser(name, load_command(name)) for name in COMMANDS}}
    return {name: list(_completed(parser)) for name, parser in parsers.items()}


def _completed(parser: argparse.ArgumentParser) -> Iterable[Completed]:
    known = {f"--{one.name}": one.choices for one in FILTERS}
    for setting in describe(Settings).values():
        words = setting.kind.schema.get("enum", ())
        known[f"--{setting.name.replace('_', '-')}"] = tuple(map(str, words))  # type: ignore[call-overload]
    for action in parser._actions:  # noqa: SLF001 (argparse has no other list of them)
        if action.help is argparse.SUPPRESS:
            continue
        names = tuple(action.option_strings)
        takes = action.nargs != 0
        choices = tuple(map(str, action.choices or ())) or known.get(names[-1] if names else "", ())
        value = str(action.metavar or action.dest.upper()) if takes else ""
        about = " ".join((action.help or "").replace("%%", "%").split())
        repeats = isinstance(action, argparse._AppendAction) or action.nargs == "*"  # noqa: SLF001
        yield Completed(names, about, value, choices, repeats)


# --- bash ------------------------------------------------------------------------------------------------------------


def bash(commands: Mapping[str, list[Completed]]) -> str:
    """Return the script for bash. What it has no words for, such as paths, bash completes as it does anywhere."""
    takes, values = [], []
    for name, parts in commands.items():
        options = " ".join(option for part in parts for option in part.names)
        operands = (
            " ".join(word for part in parts if not part.names for word in part.choices) if name else " ".join(COMMANDS)
        )
        takes.append(f"    '{name}') options='{options}' operands='{operands}' ;;")
        values += [_bash_values(name, part) for part in parts if part.names and part.value and part.choices]
        if free := [f"{name}:{one}" for part in parts if part.value and not part.choices for one in part.names]:
            values.append(f"    {'|'.join(free)}) found= ;;")
    return f"""\
# Completion of {PROGRAM} for bash, made by `{PROGRAM} completion bash`.
_trio_alerts() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command= word options operands found
    if [[ $current == '=' ]]; then  # bash takes --name=value for three words
        current=
    elif [[ $before == '=' ]]; then
        before=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
        case $word in
        {"|".join(COMMANDS)}) command=$word; break ;;
        esac
    done
    case $command in
{chr(10).join(takes)}
    esac
    case $command:$before in
{chr(10).join(values)}
    *) if [[ $current == -* ]]; then found=$options; else found=$operands; fi ;;
    esac
    COMPREPLY=($(compgen -W "$found" -- "$current"))
}}
complete -o bashdefault -o default -F _trio_alerts {PROGRAM}
"""


def _bash_values(command: str, part: Completed) -> str:
    patterns = "|".join(f"{command}:{option}" for option in part.names)
    return f"    {patterns}) found='{' '.join(part.choices)}' ;;"


# --- zsh -------------------------------------------------------------------------------------------------------------


def zsh(commands: Mapping[str, list[Completed]]) -> str:
    """Return the script for zsh, for a file `_trio-alerts` on its `fpath`."""
    listed = "\n".join(f"        {_quoted(f'{name}:{about}')}" for name, (_, about) in COMMANDS.items())
    cases = [f"        {name}) _arguments -S{_zsh_lines(commands[name])} ;;" for name in COMMANDS]
    return f"""\
#compdef {PROGRAM}
# Completion of {PROGRAM} for zsh, made by `{PROGRAM} completion zsh`.
_trio_alerts() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    commands=(
{listed}
    )
    _arguments -C '(-): :->command' '(-)*:: :->rest'{_zsh_lines(commands[""])} && return
    case $state in
    command) _describe -t commands command commands ;;
    rest)
        case $words[1] in
{chr(10).join(cases)}
        esac ;;
    esac
}}
_trio_alerts "$@"
"""


def _zsh_lines(parts: Iterable[Completed]) -> str:
    return "".join(f" \\\n            {_quoted(spec)}" for part in parts for spec in _zsh_specs(part))


def _zsh_specs(part: Completed) -> Iterable[str]:
    action = f"({' '.join(part.choices)})" if part.choices else "_files" if part.value == FILE else " "
    told = part.about.translate({ord(one): f"\\{one}" for one in "[]:\\"})
    value = f":{part.value.replace(':', ' ')}:{action}" if part.value else ""
    star = "*" if part.repeats else ""
    if not part.names:
        yield f"{star}{value}"
    for option in part.names:
        equals = "=" if part.value and option.startswith("--") else ""
        yield f"{star}{option}{equals}[{told}]{value}"


# --- fish ------------------------------------------------------------------------------------------------------------


def fish(commands: Mapping[str, list[Completed]]) -> str:
    """Return the script for fish."""
    lines = [
        f"# Completion of {PROGRAM} for fish, made by `{PROGRAM} completion fish`.",
        "function __trio_alerts_is",  # not fish's own: in `dead list`, it takes `list` for the command, too
        "    for word in (commandline -opc)[2..]",
        f"        if contains -- $word {' '.join(COMMANDS)}",
        '            test "$word" = "$argv[1]"',
        "            return",
        "        end",
        "    end",
        '    test -z "$argv[1]"',
        "end",
        f"complete -c {PROGRAM} -f",
    ]
    for name, parts in commands.items():
        rule = f"complete -c {PROGRAM} -n '__trio_alerts_is {name}'"
        lines += [f"{rule}{_fish_rule(part)}" for part in parts]
        if not name:
            lines += [f"{rule} -a {one} -d {_quoted(about, fish=True)}" for one, (_, about) in COMMANDS.items()]
    return "\n".join(lines) + "\n"


def _fish_rule(part: Completed) -> str:
    rule = "".join(f" -l {one[2:]}" if one.startswith("--") else f" -s {one[1:]}" for one in part.names)
    if part.choices:
        rule += f" {'-x ' if part.names else ''}-a {_quoted(' '.join(part.choices), fish=True)}"
    elif part.value:
        rule += (" -r -F" if part.names else " -F") if part.value == FILE else " -x" if part.names else ""
    return f"{rule} -d {_quoted(part.about, fish=True)}"


def _quoted(text: str, *, fish: bool = False) -> str:
    """Quote a text for a shell: nothing in it is expanded."""
    if fish:
        text = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{text}'"
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: Mapping[str, Callable[[Mapping[str, list[Completed]]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
