"""The settings that a parent gives to its children, in memory that they inherit.

So that all of them have the same ones, whenever they are started: none reads a file that has changed since its parent
did, be it for the worse.
"""

import hashlib
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from trio_alerts import __version__
from trio_alerts.errors import StartError
from trio_alerts.meter.cells import anonymous_file
from trio_alerts.meter.layout import Layout
from trio_alerts.settings.settings import Settings, is_made_up, make_up_consumer

SETTINGS = "_TRIO_ALERTS_SETTINGS"  # to a child: the descriptor; not TRIO_ALERTS_…: that would be a setting
_DIGEST = hashlib.sha256().digest_size
LOOKS, LOOK_AGAIN_S = 200, 0.005  # to write it takes microseconds


class Shared(NamedTuple):
    """What all children have in common: the settings, and which cells their channels count in."""

    settings: Settings
    layout: Layout


class SharedSettings:
    """The parent's end.

    Attributes:
        descriptor: Of the memory; to be passed to each child.
    """

    def __init__(self, shared: Shared) -> None:
        self.descriptor = anonymous_file("trio-alerts-settings")
        self.put(shared)

    def put(self, shared: Shared) -> None:
        """Let children read this from now on; those that run are told to by whoever calls."""
        if is_made_up(shared.settings.consumer):  # each child makes up its own
            shared = shared._replace(settings=replace(shared.settings, consumer=""))
        data = b"%b\n%b" % (__version__.encode(), pickle.dumps(shared))
        os.ftruncate(self.descriptor, os.pwrite(self.descriptor, hashlib.sha256(data).digest() + data, 0))


def inherited_settings(environ: Mapping[str, str] = os.environ) -> Shared | None:
    """Return what our parent says now; None if we have none, or it is of another version than this program.

    Blocking code.

    Raises:
        StartError: It cannot be read: our parent has died while it was writing.
    """
    if SETTINGS not in environ:
        return None
    version, _, pickled = _whole(int(environ[SETTINGS])).partition(b"\n")
    if version != __version__.encode():  # it was replaced on the disk, and its parent still runs
        return None
    shared: Shared = pickle.loads(pickled)  # noqa: S301 - our parent wrote it, to memory that nobody else has
    if shared.settings.consumer:
        return shared
    return shared._replace(settings=replace(shared.settings, consumer=make_up_consumer()))


def _whole(descriptor: int) -> bytes:
    """Return what was written, without its digest; while our parent is just writing, look again."""
    for _ in range(LOOKS):
        written = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        digest, data = written[:_DIGEST], written[_DIGEST:]
        if hashlib.sha256(data).digest() == digest:
            return data
        time.sleep(LOOK_AGAIN_S)
    raise StartError("the settings that the parent process shares cannot be read")
