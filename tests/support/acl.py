"""What the users of a Redis did: each command with its keys, also those inside of scripts, as MONITOR shows them."""

import ast
import hashlib
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.program import PATIENCE_S
from tests.support.servers import RedisServer

USERS_FILE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
STREAM, GROUP = "AlertStream", "alert-processor"  # those of the file
PASSWORD = "a password"

Command = tuple[bytes, ...]

_LINE = re.compile(rb'\+[\d.]+ \[\d+ (\S+)\] (".*")')
_ARGUMENT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_SURVEYED = {(b"PTTL", STREAM.encode()), (b"XLEN", STREAM.encode())}
_SURVEYED |= {(b"PTTL", f"{{{STREAM}}}:{name}".encode()) for name in ("dead", f"ledger:{GROUP}")}
_CONTAINERS = (b"ACL", b"CLIENT", b"XGROUP", b"XINFO")


def users() -> dict[str, list[str]]:
    """Return the rules of each user of the file, one word or selector each, without those that say who it is."""
    lines = [line.split(" ", 2) for line in USERS_FILE.read_text().splitlines()]
    return {name: re.findall(r"\(.*?\)|\S+", rules) for _, name, rules in lines if name != "default"}


def acl_file(folder: Path) -> Path:
    """Write the file for a server: as it is, but with passwords, and for the tests a default user who may do all."""
    text = USERS_FILE.read_text().replace("user default off\n", "user default on nopass ~* &* +@all\n")
    path = folder / "users.acl"
    path.write_text(re.sub(r"^(user alerts-\S+ on) ", rf"\1 #{_sha256(PASSWORD)} ", text, flags=re.MULTILINE))
    return path


def without_each(rules: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each right and the rules without it: a command, or reading or writing the keys of a pattern."""
    for number, rule in enumerate(rules):
        words = rule.strip("()").split()
        for place, word in enumerate(words):
            for fewer in _less_than(word):
                left = " ".join(filter(None, (*words[:place], fewer, *words[place + 1 :])))
                selector = f"({left})" if rule.startswith("(") else left
                yield f"{word} in {rule}", [*rules[:number], *filter(None, [selector]), *rules[number + 1 :]]


class Monitor:
    """Hears what is sent over TCP; what tests do themselves goes over the unix socket.

    Args:
        server: Where.

    Attributes:
        sent: Of each user, its commands: of those that differ in their arguments only, one.
    """

    def __init__(self, server: RedisServer) -> None:
        self.sent: dict[str, dict[Command, Command]] = {}
        self._server = server
        self._user = ""
        self._marks: dict[bytes, threading.Event] = {}
        self._surveying: set[bytes] = set()
        self._peer = b""

    @contextmanager
    def listening(self) -> Iterator["Monitor"]:
        """Listen while the block runs."""
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(str(self._server.socket))
            connected.sendall(b"MONITOR\r\n")
            hearing = threading.Thread(target=self._hear, args=(connected,), daemon=True)
            hearing.start()
            yield self
            connected.shutdown(socket.SHUT_RDWR)
            hearing.join()

    def now(self, user: str, client: Any) -> None:
        """Say who is at work from now on; nobody else may be."""
        mark = secrets.token_hex(8).encode()
        self._marks[mark] = heard = threading.Event()
        client.echo(mark)
        assert heard.wait(PATIENCE_S), "MONITOR is silent"
        self._user = user

    def _hear(self, connected: socket.socket) -> None:
        with connected.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                if found := _LINE.match(line):
                    self._note(found[1], tuple(ast.literal_eval(f"b{one.decode()}") for one in _arguments(found[2])))

    def _note(self, peer: bytes, command: Command) -> None:
        if peer != b"lua":  # what a script calls follows it
            self._peer = peer
        if self._peer.startswith(b"unix:"):
            if command[0] == b"echo" or command[0] == b"ECHO":
                self._marks[command[1]].set()
            return
        name = command[0].upper()
        if name == b"INFO":
            self._surveying.add(self._peer)
        elif name == b"EVAL" and b"redis.call" in command[1]:
            self._surveying.discard(self._peer)
        elif self._peer in self._surveying and command not in _SURVEYED:
            return  # asked for, and not used yet
        words = (name, command[1].upper()) if name in _CONTAINERS else (name,)
        keys = tuple(one for one in command[1:] if one.startswith((STREAM.encode(), b"{%b}:" % STREAM.encode())))
        self.sent.setdefault(self._user, {}).setdefault((*words, *keys), command)


def _less_than(word: str) -> Iterator[str]:
    if word.startswith("~"):
        yield from (f"%R{word}", f"%W{word}")
    elif word[0] in "+%":
        yield ""


def _arguments(text: bytes) -> list[bytes]:
    return _ARGUMENT.findall(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
