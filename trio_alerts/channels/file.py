"""A file: each alert is one line of JSON, appended and on the disk before it counts as delivered."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import trio
from anyio import CapacityLimiter, to_thread

from trio_alerts.channels.registry import ChannelKind, Equipment
from trio_alerts.exact_json import Json, encode
from trio_alerts.http.socket import SendProgress
from trio_alerts.outcome import Accepted, Outcome, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.settings.kinds import FILE, choice
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.settings.tables import about


@dataclass(frozen=True, kw_only=True)
class FileSettings(ChannelSettings):
    """A file on this machine, of JSON lines."""

    kind: Literal["file"] = field(default="file", metadata=about(choice("file"), "The kind of channel."))
    path: Path = field(metadata=about(FILE, "The file; it is made if it is not there, its folder is not."))

    @property
    def destination(self) -> str:
        """See `ChannelSettings`."""
        return str(self.path)

    def warnings(self) -> Iterator[str]:
        """See `ChannelSettings`."""
        if not self.path.parent.is_dir():
            yield f"channel {self.name!r}: there is no folder {str(self.path.parent)!r}"


class FileChannel:
    """Appends to one file, one line at a time. It is opened anew for each, so a file that was rotated away is left."""

    def __init__(self, settings: FileSettings, equipment: Equipment) -> None:
        self.name = settings.name
        self._path = settings.path
        self._now = equipment.now
        self._limiter = CapacityLimiter(1)  # more would only wait for the lock of the file

    def __repr__(self) -> str:
        return f"<FileChannel {self.name} to {self._path}>"

    async def send(self, message: Message) -> Outcome:
        """Append one line; see `Channel`.

        Cancellation, TooSlowError: a thread that has begun goes on by itself, and may still write the line.
        """
        progress = SendProgress()
        append = partial(_append, self._path, self._line(message), progress)
        try:
            with trio.fail_at(message.deadline):
                await to_thread.run_sync(append, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            if progress.started:
                raise
            return Retry("the file was busy; nothing was written")
        except OSError as fault:
            return Retry(f"{self._path}: {fault.strerror}", unseen=isinstance(fault, _PartialLine), needs_human=True)
        return Accepted()

    async def why_unreachable(self, deadline: float) -> str | None:  # noqa: ARG002 - a look takes no time
        """See `ConfiguredChannel`."""
        await trio.lowlevel.checkpoint()
        target = self._path if self._path.exists() else self._path.parent
        if not target.exists():
            return f"there is no folder {str(target)!r}"
        return None if os.access(target, os.W_OK) else f"{str(target)!r} must not be written to"

    def preview(self, message: Message) -> str:
        """See `ConfiguredChannel`."""
        return self._line(message).decode().rstrip("\n")

    def _line(self, message: Message) -> bytes:
        fields: dict[str, object] = {"record_id": message.id, "written_at": self._now()}
        if message.may_be_repeat:
            fields["may_be_repeat"] = True
        return encode({**fields, "alert": Json(message.payload)}) + b"\n"


class _PartialLine(OSError):
    """Some of a line may be in the file."""


def _append(path: Path, line: bytes, progress: SendProgress) -> None:
    """Write a whole line or nothing.

    Raises:
        _PartialLine: Neither could be done.
        OSError: Nothing was written.
    """
    progress.started = True  # from here on nobody can stop this thread
    with _opened(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # other processes write here, too
        size = os.fstat(file).st_size
        # Of a process that was killed, or a disk that took nothing more: what follows must not become part of it.
        is_torn = size and os.pread(file, 1, size - 1) != b"\n"
        try:
            _write(file, b"\n" + line if is_torn else line)
            if not size:
                _sync_folder(path.parent)
        except OSError as fault:
            try:
                os.ftruncate(file, size)
            except OSError:
                raise _PartialLine(fault.errno, fault.strerror) from fault
            raise


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file
    finally:
        os.close(file)


def _write(file: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    """Keep the name of a new file over a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


KIND = ChannelKind(FileSettings, FileChannel)
