"""A store belongs to one Redis and one group: what operators do about it, on real servers."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import MakeSite
from tests.support.fakes.world import GROUP
from tests.support.program import Site, stop
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer

PRODUCTION, ELSEWHERE = 1, 2  # databases of one server: to its clients, two servers
OPERATIONS = ("check", "audit", "stats", "redeliver --state failed", "resolve 1-1 delivered")


class Place(Site):
    """A site whose Redis is one of several databases, and whose store can be copied."""

    def kept(self) -> list[bytes]:
        """Return the keys of everything that belongs to the stream."""
        with self.client() as client:
            found: Any = client.keys(f"*{self.stream}*")
        return list(found)

    def identity(self) -> str | None:
        with self.client() as database:
            value: Any = database.get(f"{{{self.stream}}}:deployment:{self.settings.get('group', GROUP)}")
        return None if value is None else str(value.decode())

    def meta(self) -> dict[str, Any]:
        assert self.opensearch is not None
        _, answer = self.opensearch.request("GET", f"/{self.index}/_mapping")
        (index,) = answer.values()
        return dict(index["mappings"]["_meta"])

    def stored_identity(self) -> str | None:
        if self.opensearch is not None:
            return self.meta().get("deployment")
        with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"))) as connection:
            return str(connection.execute("SELECT identity FROM deployment").fetchone()[0])

    def forget_stored_identity(self) -> None:
        """Make the store one from before there were identities."""
        if self.opensearch is not None:
            meta = {name: value for name, value in self.meta().items() if name != "deployment"}
            assert 200 == self.opensearch.request("PUT", f"/{self.index}/_mapping", {"_meta": meta})[0]
            return
        with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"))) as connection:
            connection.execute("DROP TABLE deployment")

    def on(self, database: int, **settings: str) -> "Place":
        """Return the same place with another Redis, and other settings."""
        url = f"{self.redis.url.rpartition('/')[0]}/{database}"
        return replace(self, settings=self.settings | {"redis_url": url} | settings)

    def copied(self) -> "Place":
        """Copy the store, as a snapshot does: with all that it says about itself."""
        if self.opensearch is None:
            path = Path(self.store_url.removeprefix("sqlite:///"))
            shutil.copy(path, self.folder / "copy.db")
            return replace(self, store_url=f"sqlite:///{self.folder}/copy.db")
        copy = f"{self.index}-copy"
        _, answer = self.opensearch.request("GET", f"/{self.index}/_mapping")
        (index,) = answer.values()
        body = {
            "mappings": index["mappings"],
            "settings": {"index.translog.durability": "request"},
            "aliases": {copy: {"is_write_index": True}},
        }
        assert 200 == self.opensearch.request("PUT", f"/{copy}-000001", body)[0]
        _, found = self.opensearch.request("GET", f"/{self.index}/_search?size=100")
        for hit in found["hits"]["hits"]:
            where = f"/{copy}-000001/_doc/{hit['_id']}?refresh=true"
            assert 201 == self.opensearch.request("PUT", where, hit["_source"])[0]
        return replace(self, index=copy)

    def refused(self, *argv: str) -> str:
        """Call a command that ends with exit code 3; return what it says."""
        called = self.ask(*argv)
        assert 3 == called.exit_code, (argv, called)
        return called.err


@pytest.fixture(params=["valkey+sqlite", "valkey+opensearch3"])
def production(request: pytest.FixtureRequest, make_site: MakeSite) -> Place:
    return make_site(Place, request.param, retry_schedule_s="3,3,3,3,3,3").on(PRODUCTION)


@pytest.fixture
def owing(production: Place, receiver: ReceiverServer) -> Place:
    """Production, stopped while it had an alert to try again, in three seconds."""
    receiver.set_scripts({"*": Script([Step(503)])})
    with production.running() as worker:
        production.emit()
        production.until("retrying")
        assert 0 == stop(worker)
    receiver.set_scripts({"*": Script([Step(200)])})
    return production


@pytest.mark.parametrize("who", ["staging", "another group"])
def test_nobody_else_touches_the_store(owing: Place, receiver: ReceiverServer, who: str) -> None:
    """With default names on one store, or two groups on one Redis: exit code 3, nothing read, sent or changed."""
    other = owing.on(ELSEWHERE) if who == "staging" else owing.on(PRODUCTION, group="another")
    other.emit()
    before, sent = owing.records(), receiver.totals().requests

    told = other.refused("run", "--log-format", "text")
    assert f"The store belongs to deployment {owing.identity()}" in told
    assert "python -m trio_alerts adopt" in told
    for command in OPERATIONS:
        other.refused(*command.split())
    assert 2 == other.ask("adopt").exit_code  # there is no terminal to ask at

    assert (before, sent) == (owing.records(), receiver.totals().requests)
    assert other.identity() is None
    with other.client() as database:
        groups: Any = database.xinfo_groups(other.stream)
    assert all(group["name"].decode() == GROUP for group in groups)


def test_a_redis_from_a_backup_is_at_home(owing: Place) -> None:
    """What is restored has the identity, too: `run` starts, and goes on where the backup was made."""
    there = owing.on(ELSEWHERE)
    with owing.client() as source, there.client() as target:
        for key in owing.kept():
            dumped: Any = source.dump(key)
            left_ms: Any = source.pttl(key)
            target.restore(key, max(left_ms, 0), dumped)
    with there.running() as worker:
        there.until("delivered")
        assert 0 == stop(worker)


def test_a_store_moves_to_a_new_redis_by_adoption(owing: Place, receiver: ReceiverServer) -> None:
    """A Redis that lost its data while nothing ran, or a new one: exit code 3, until somebody adopts the store."""
    there, old = owing.on(ELSEWHERE), owing.identity()
    assert "to none yet" in there.refused("run")

    told = there.ask("adopt", "--yes").out
    assert f"belongs to deployment {old}" in told
    assert "records: retrying 1" in told
    assert there.identity() == there.stored_identity() != old
    with there.running() as worker:
        there.until("delivered")
        assert 0 == stop(worker)
    assert 2 == receiver.totals().requests

    assert f"this Redis to deployment {old}" in owing.refused("run")
    assert "nothing to adopt" in there.ask("adopt").out


def test_a_copy_of_the_store_belongs_to_production(owing: Place, receiver: ReceiverServer) -> None:
    """Staging with a copy sends nothing before it is adopted, and production's own store stays what it is."""
    staging = owing.on(ELSEWHERE).copied()
    assert str(owing.identity()) in staging.refused("run")
    assert 1 == receiver.totals().requests

    assert 0 == staging.ask("adopt", "--yes").exit_code
    with staging.running() as worker, owing.running() as other:
        staging.until("delivered")
        owing.until("delivered")
        assert [0, 0] == [stop(worker), stop(other)]
    assert owing.identity() == owing.stored_identity() != staging.identity()


def test_what_was_there_before_goes_on(owing: Place) -> None:
    """A store and a Redis from before there were identities get one at the next start, without a hand."""
    owing.forget_stored_identity()
    with owing.client() as database:
        database.delete(f"{{{owing.stream}}}:deployment:{GROUP}")
    with owing.running() as worker:
        owing.until("delivered")
        assert 0 == stop(worker)
    assert owing.identity() == owing.stored_identity() is not None
