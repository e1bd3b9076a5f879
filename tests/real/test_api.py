"""The API of a real console: nothing that a client can send makes it fail, and what it answers is as described."""

import json
import re
import shlex
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from msgspec.structs import replace

from tests.real.conftest import MakeSite
from tests.support.obtain import obtain
from tests.support.program import Site, command_line, wait_until
from tests.support.servers import ValkeyServer
from tests.support.servers.process import free_port
from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, SILENCED, record
from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.web.api.api import PREFIX
from trio_alerts.web.api.openapi import EXAMPLES

TOKEN = "correct-horse-battery"
SECRET = {"Authorization": f"Bearer {TOKEN}"}
DOCUMENTATION = Path(__file__).parents[2] / "docs/api.md"
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\u0000'\"\n%{}"


class ConsoleSite(Site):
    """A site with a console."""

    @contextmanager
    def console(self, *options: str) -> Iterator[str]:
        """Run a console until the block ends, and return its address."""
        address = f"127.0.0.1:{free_port()}"
        log = self.folder / "console.log"
        self.logs.append(log)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command_line("console", "--bind", address, *options), env=self.environ, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: _answers(f"http://{address}"), "the console answers", self)
            yield f"http://{address}"
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}{PREFIX}/openapi.json", headers=SECRET).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def site(make_site: MakeSite) -> ConsoleSite:
    """Give a site with records in every state that an operator changes, and dead letters, all with hostile text."""
    site = make_site(ConsoleSite, console_token=TOKEN)
    trio.run(_fill, site.folder / "alerts.db")
    with site.client() as client:
        for dead_id in (*(f"{number}-0" for number in range(1, 200)), EXAMPLES["dead_id"]):
            noted = {b"_id": b"9-0", b"_record": b"9-0", b"_reason": HOSTILE.encode(), b"_error": HOSTILE.encode()}
            client.xadd("{" + site.stream + "}:dead", {b"event": b"\xff" + HOSTILE.encode()} | noted, id=dead_id)
    return site


async def _fill(database: Path) -> None:
    async with open_sqlite_store(database, 5.0) as store:
        await store.prepare()
        for number, delivery in enumerate((DELIVERED, FAILED, IN_DOUBT, SILENCED), 1):
            await store.create(record(number, delivery, title=HOSTILE, view=HOSTILE, labels={HOSTILE: HOSTILE}))
        await store.create(replace(record(5, IN_DOUBT), id=EXAMPLES["record_id"]))


def test_whatever_a_client_sends_is_answered_as_described(site: ConsoleSite) -> None:
    """Schemathesis finds no 500, no status and no answer that `openapi.json` does not have."""
    with site.console() as url:
        found = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "run", f"{url}{PREFIX}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}", "--seed", "1", "--max-examples", "10"),
                # What is right in form may be wrong in meaning: a matcher that nobody can read, a time that is over.
                # And each of its wrong tokens would be held back for seconds.
                *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
            ],
            cwd=site.folder,
            capture_output=True,
            check=False,
            text=True,
        )
    assert 0 == found.returncode, found.stdout + found.stderr + site.log()
    assert "a wrong token" not in site.log()
    changes = ("due again", "settled record", "set silence", "ended silence", "put dead letter", "dropped dead letter")
    assert [] == [change for change in changes if change not in site.log()]


def test_the_examples_of_the_documentation_work(site: ConsoleSite) -> None:
    """Each one is answered as it stands there, one after the other."""
    with site.console() as url, httpx.Client(headers=SECRET) as client:
        asked = []
        for line in re.findall(r"^\$ curl (.*)$", DOCUMENTATION.read_text(), re.MULTILINE):
            _, _, address, *options = shlex.split(line)
            silence = next(iter(client.get(f"{url}{PREFIX}/silences").json()["silences"]), {"id": ""})
            address = address.replace("$alerts", f"{url}{PREFIX}").replace(EXAMPLES["silence_id"], silence["id"])
            match options:
                case ["--json", body]:
                    answer = client.post(address, json=json.loads(body))
                case ["-X", method]:
                    answer = client.request(method, address)
                case []:
                    answer = client.get(address)
                case _:
                    raise AssertionError(line)
            assert answer.is_success, f"{line}: {answer.text}"
            asked.append(answer)
    assert 14 == len(asked)


def test_the_api_and_the_commands_say_the_same(site: ConsoleSite) -> None:
    """Whoever reads the JSON of one can read that of the other."""
    site.ask("silence", "add", "view = a", "--for", "2h", "--why", HOSTILE)
    with site.console() as url, httpx.Client(base_url=f"{url}{PREFIX}", headers=SECRET) as client:
        page = client.get("/quarantine", params={"limit": 3, "reason": HOSTILE}).json()
        names = [entry["dead_id"] for entry in page["entries"]]
        rest = client.get("/quarantine", params={"limit": 500, "after": page["next"]}).json()
        (silence,) = client.get("/silences").json()["silences"]
        stats = client.get("/stats").json()

        assert ["1-0", "2-0", "3-0"] == names
        assert (197, None) == (len(rest["entries"]), rest["next"])
        assert _printed(site, "dead", "list") == [*page["entries"], *rest["entries"]]
        assert _printed(site, "dead", "show", "1-0") == [client.get("/quarantine/1-0").json()]
        assert _printed(site, "silence", "list") == [silence]
        assert _printed(site, "list") == client.get("/records").json()["records"]
        assert _printed(site, "show", "2-0") == [client.get("/records/2-0").json()]
        assert [_without_ages(one) for one in _printed(site, "stats")] == [_without_ages(stats)]
        _go_on_behind_odd_places(client)


def _go_on_behind_odd_places(client: httpx.Client) -> None:
    """Ask for pages by cursors that no page ended with: a client may have made them up."""
    for place in ([None, "1-0"], ["", ""], ["\0", "\ud7ff"], ["x" * 5000, "y|1-0"], ["9" * 41, "%' OR 1=1 --"]):
        cursor = urlsafe_b64encode(json.dumps(place).encode()).decode()
        answer = client.get("/records", params={"after": cursor})
        assert 200 == answer.status_code, answer.text


def _printed(site: ConsoleSite, *argv: str) -> list[Any]:
    return [json.loads(line) for line in site.ask(*argv, "--json").out.splitlines()]


def _without_ages(stats: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stats.items() if name != "oldest_undelivered_s"}


def test_an_outage_of_redis_ends_with_it(make_site: MakeSite) -> None:
    """Records are read all the while, what is in Redis is answered with 503, and the console needs no restart."""
    with obtain(ValkeyServer) as redis:
        site = make_site(ConsoleSite, console_token=TOKEN, redis_timeout_s="0.5")
        site.redis = redis
        trio.run(_fill, site.folder / "alerts.db")
        with site.console() as url, httpx.Client(base_url=f"{url}{PREFIX}", headers=SECRET) as client:
            assert 200 == client.get("/silences").status_code
            redis.kill()
            away = client.get("/silences")
            assert (503, "application/problem+json") == (away.status_code, away.headers["content-type"])
            assert ["redis"] == client.get("/stats").json()["missing"]
            assert 503 == client.post("/records/2-0/redeliver").status_code
            assert 200 == client.get("/records").status_code
            redis.start()
            wait_until(lambda: client.get("/silences").status_code == 200, "Redis is back", site)
            assert 200 == client.post("/records/2-0/redeliver").status_code


def test_opensearch_is_asked_for_any_id(make_site: MakeSite) -> None:
    """IDs as long and as odd as clients send them are not there, and nothing fails."""
    site = make_site(ConsoleSite, "valkey+opensearch3", console_token=TOKEN)
    with site.running():
        record_id = site.emit(title=HOSTILE, view=HOSTILE)
        site.until("delivered")
    with site.console() as url, httpx.Client(base_url=f"{url}{PREFIX}", headers=SECRET) as client:
        assert HOSTILE == client.get(f"/records/{record_id}").json()["title"]
        assert 1 == client.get("/records", params={"view": HOSTILE, "state": "delivered"}).json()["matching"]
        assert 0 == client.get("/records", params={"since": "9998-12-31T23:59:59Z"}).json()["matching"]
        assert 0 == client.get("/records", params={"until": "0002-01-01T00:00:00Z"}).json()["matching"]
        assert 0 == client.get("/records", params={"view": "x" * 9000}).json()["matching"]
        _go_on_behind_odd_places(client)
        for odd in ("../_search|1-0", "_all|1-0", "?x|1-0", "ä\0\n|1-0", "x" * 600 + "|1-0"):
            assert 404 == client.get(f"/records/{quote(odd, safe='')}").status_code, odd
            assert 404 == client.post(f"/records/{quote(odd, safe='')}/redeliver").status_code, odd
