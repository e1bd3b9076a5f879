"""Where the demo's files are."""

import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from trio_alerts.demo import folder
from trio_alerts.demo.folder import demo_folder, place


@pytest.fixture(autouse=True)
def nobody_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(folder, "MEMORY", tmp_path)


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=mib * 1024 * 1024))


def test_a_folder_that_is_not_kept_is_in_memory_if_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory only if the demo fits with room to spare: a container's share memory is often 64 MiB."""
    free(monkeypatch, 1_000)
    assert folder.MEMORY == place(600)

    free(monkeypatch, 64)
    assert place(600) is None

    free(monkeypatch, 1_000)
    assert place(100_000) is None


def test_who_says_where_temporary_files_go_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TMPDIR is stronger than the demo's own opinion."""
    monkeypatch.setenv("TMPDIR", "/somewhere")

    assert place(1) is None


def test_a_system_without_memory_folder_uses_the_usual_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is Linux's; elsewhere there is none."""
    monkeypatch.setattr(folder, "MEMORY", tmp_path / "missing")

    assert place(1) is None


def test_the_folder_is_gone_afterwards() -> None:
    """An exception changes nothing about that, and nobody else can look into it meanwhile."""
    with suppress(ZeroDivisionError), demo_folder(1, keep=False) as where:
        assert 0o700 == where.stat().st_mode & 0o777
        (where / "file").touch()
        raise ZeroDivisionError

    assert not where.exists()


def test_what_is_kept_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept folder is on disk, and the way to its records is printed."""
    free(monkeypatch, 1_000)
    with demo_folder(1, keep=True) as where:
        pass

    try:
        assert folder.MEMORY not in where.parents
        assert f"list --store-url sqlite:///{where}/records.db" in capsys.readouterr().out
    finally:
        shutil.rmtree(where)
