"""What children inherit of their parent: the same for all, whole, and by nobody else's eyes."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import trio_alerts.shared_settings
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.errors import StartError
from trio_alerts.meter.layout import Layout
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url
from trio_alerts.settings.settings import Settings, is_made_up
from trio_alerts.shared_settings import SETTINGS, Shared, SharedSettings, inherited_settings

PAGER = WebhookSettings(
    name="pager",
    url=parse_receiver_url("https://pager.example/x"),
    secret=Secret("aHVudGVyMg=="),
    headers={"Authorization": Secret("hunter2")},
)
SHARED = Shared(Settings(channels=(PAGER,), consumer="pod-7"), Layout(["pager"]))


def child_of(shared: SharedSettings) -> Shared | None:
    return inherited_settings({SETTINGS: str(shared.descriptor)})


def test_a_child_has_what_its_parent_has() -> None:
    """Secrets included; and what it says later, also if that is less."""
    shared = SharedSettings(SHARED)
    inherited = child_of(shared)
    assert inherited is not None
    assert (SHARED.settings, SHARED.layout.channels) == (inherited.settings, inherited.layout.channels)
    assert SHARED.layout.fingerprint == inherited.layout.fingerprint

    fewer = replace(SHARED.settings, channels=())
    shared.put(Shared(fewer, SHARED.layout))
    inherited = child_of(shared)
    assert inherited is not None
    assert fewer == inherited.settings


def test_each_child_makes_up_its_own_name() -> None:
    """If its parent did; a successor of the same name would look like the one before."""
    shared = SharedSettings(Shared(Settings(), Layout()))
    names = {inherited.settings.consumer for _ in range(3) if (inherited := child_of(shared))}
    assert 3 == len(names)
    assert all(map(is_made_up, names))


def test_who_has_no_parent_inherits_nothing() -> None:
    """It reads for itself."""
    assert inherited_settings({}) is None


def test_a_child_of_another_version_reads_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program was replaced while its parent runs: what that wrote may mean something else by now."""
    shared = SharedSettings(SHARED)
    monkeypatch.setattr(trio_alerts.shared_settings, "__version__", "99.0")
    assert child_of(shared) is None


def test_what_is_just_being_written_is_read_when_it_is_whole() -> None:
    """Be the half of it there already."""
    shared = SharedSettings(SHARED)
    whole = os.pread(shared.descriptor, 100_000, 0)
    os.pwrite(shared.descriptor, b"\0" * (len(whole) // 2), 0)
    writer = threading.Timer(0.05, os.pwrite, (shared.descriptor, whole, 0))
    writer.start()
    inherited = child_of(shared)
    writer.join()
    assert inherited is not None
    assert SHARED.settings == inherited.settings


def test_a_parent_that_died_while_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child ends too, and does not wait for ever."""
    shared = SharedSettings(SHARED)
    os.pwrite(shared.descriptor, b"\0", 0)
    monkeypatch.setattr(trio_alerts.shared_settings, "LOOK_AGAIN_S", 0.0)
    with pytest.raises(StartError, match="cannot be read"):
        child_of(shared)


def test_it_is_in_no_file() -> None:
    """There are secrets in it."""
    shared = SharedSettings(SHARED)
    assert "memfd:" in str(Path(f"/proc/self/fd/{shared.descriptor}").readlink())
