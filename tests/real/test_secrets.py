"""A marker in every secret, receivers that repeat all they are sent, and a look at everything that is written."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from redis import Redis

from tests.real.conftest import MakeSite
from tests.support.program import PATIENCE_S, Site, stop, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.process import free_port

MARK = "S3CR3Tmarker"
TOKEN = f"{MARK}-console"
KEY = "whsec_" + MARK * 2  # it is base64
# What a text of it looks like: as it is, and in base64 behind one, two or three other bytes; all in lower case.
DISGUISES = (
    MARK.lower().encode(),
    *(base64.b64encode(b"?" * n + MARK.encode()).lower()[2 * n : -4] for n in range(3)),
)


class Echo(BaseHTTPRequestHandler):
    """Repeats each request in its answer: as text, as JSON, or as a page; the path says with which status."""

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"])).decode()
        said = {
            **self.headers,
            "path": self.path,
            "key": sent.partition('"routing_key":')[2][:60],
            "was": f"Cannot {self.requestline}",
        }
        form = int(self.path.partition("form=")[2][:1])
        text = (
            json.dumps(said),
            "".join(f"{k}: {v}\n" for k, v in said.items()),
            f"<p>{said}</p>".replace("=", "&#x3D;"),
        )
        body = (" " * (900 if "late" in self.path else 0) + text[form]).encode()
        self.send_response(int(self.path.partition("status=")[2][:3]))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class EchoingMailServer(StreamRequestHandler):
    """Repeats a login in its refusal, as it came and as it was meant."""

    def handle(self) -> None:
        self.wfile.write(b"220 mail.example\r\n")
        while line := self.rfile.readline().strip():
            given = base64.b64decode(line.rpartition(b" ")[2]) if line.startswith(b"AUTH") else b""
            said = given.replace(b"\0", b" ")
            offers, refusal = b"250-mail.example\r\n250 AUTH PLAIN", b"535 not " + said + b" (" + line + b")"
            answers = {b"EHLO": offers, b"AUTH": refusal}
            self.wfile.write(answers.get(line[:4].upper(), b"250 ok") + b"\r\n")


@contextmanager
def echoing() -> Iterator[tuple[str, str]]:
    """Yield the addresses of both receivers."""
    http, mail = ThreadingHTTPServer(("127.0.0.1", 0), Echo), ThreadingTCPServer(("127.0.0.1", 0), EchoingMailServer)
    mail.daemon_threads = True
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (http, mail)]
    for thread in threads:
        thread.start()
    try:
        yield f"127.0.0.1:{http.server_port}", f"127.0.0.1:{mail.server_address[1]}"
    finally:
        for server, thread in zip((http, mail), threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def redis_url(valkey: RedisServer) -> Iterator[str]:
    """The server, entered by a user with a password."""
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "marked", "on", f">{MARK}:pw", "~*", "&*", "+@all")
        yield f"redis://marked:{MARK}%3Apw@{urlsplit(valkey.url).netloc}/0"
        client.execute_command("ACL", "DELUSER", "marked")


def tables(address: str, mail: str, folder: Path) -> Iterator[str]:
    """Yield channels of every kind: a secret in everything that may hold one, here or in a file, and every refusal."""

    def written(key: str, text: str) -> str:
        """Return the line of a secret; every second one lies in a file."""
        number = next(numbers)
        if number % 2:
            return f'{key} = "{text}"\n'
        file = folder / f"secret-{number}"
        file.write_text(f"{text}\n")
        return f'{key}_file = "{file}"\n'

    numbers, answers = count(), ((0, 200, ""), (1, 410, ""), (2, 403, ""), (1, 503, "&late"))
    for user in ("", f"us%40er:{MARK}%2Fpw@"):
        for form, status, late in answers:
            url = f"http://{user}{address}/hooks/{MARK}/%7B{MARK}%7D?token={MARK}+1&form={form}&status={status}{late}"
            yield written("url", url) + written("secret", KEY)
            if not user:
                yield written("url", url) + f"[channels.headers]\n{written('Authorization', f'Bearer {MARK}-token')}"
    key, bot = f"{MARK}0123", f'kind = "slack"\nroom = "r"\napi_url = "http://{address}/form=0&status=200"\n'
    for number, text in enumerate((f"xoxb-{MARK}", f"xoxb-{MARK}2")):
        yield bot + written("token", text)
        yield 'kind = "slack"\n' + written("url", f"http://{address}/services/{MARK}{number}/form=1&status=403")
        yield f'kind = "pagerduty"\nurl = "http://{address}/form={number}&status=400"\n' + written("routing_key", key)
        yield 'kind = "email"\nstarttls = false\nsender = "a@b"\nto = ["c@d"]\n' + written(
            "smtp_url", f"smtp://me:{MARK}{number}@{mail}"
        )
    yield f'kind = "pagerduty"\nurl = "http://{address}/form=1&status=202"\n' + written("routing_key", key)
    yield f'kind = "file"\npath = "{folder}/alerts.jsonl"\n'


def everything_in(redis: RedisServer) -> bytes:
    """Return all keys of a server with what is in them."""
    read: dict[bytes, Callable[[Redis, bytes], object]] = {
        b"string": Redis.get,
        b"hash": Redis.hgetall,
        b"list": lambda client, key: client.lrange(key, 0, -1),
        b"set": Redis.smembers,
        b"zset": lambda client, key: client.zrange(key, 0, -1),
        b"stream": lambda client, key: (client.xrange(key), client.xinfo_groups(key)),
    }
    with redis.client() as client:
        keys: Any = client.keys("*")
        return b"".join(key + repr(read[client.type(key)](client, key)).encode() for key in keys)


def pages_of_the_console(site: Site, entry_id: str) -> list[str]:
    """Return what the console answers, with all headers, to whoever signs in, and to whoever has a wrong token."""
    bind = f"127.0.0.1:{free_port()}"
    records, api = "/?state=retrying", "/api/v1"
    with (
        site.serving("console", "--bind", bind, "--log-level", "debug"),
        httpx.Client(base_url=f"http://{bind}", follow_redirects=True) as browser,
    ):
        wait_until(lambda: "the console is at" in site.log(), "the console answers", site)
        answers = [browser.get("/"), browser.get(f"{api}/stats", headers={"authorization": f"Bearer {TOKEN}2"})]
        assert [401, 401] == [answer.status_code for answer in answers]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answers[0].text))
        answers.append(browser.post("/sign-in", data=fields | {"token": TOKEN}))
        paths = [records, f"/records/{entry_id}", "/channels", "/silences", "/quarantine", f"{api}/openapi.json"]
        paths += [f"{api}/{name}" for name in ("records", f"records/{entry_id}", "silences", "quarantine", "stats")]
        answers += [browser.get(path) for path in paths]
        assert {200} == {answer.status_code for answer in answers[2:]}
    return [f"{answer.headers}{answer.text}" for answer in answers]


@pytest.mark.parametrize("servers", ["valkey+sqlite", "valkey+opensearch3"])
def test_no_secret_is_written_anywhere(
    servers: str, make_site: MakeSite, valkey: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Neither logs, tracebacks and records, nor Redis, the store and any command have it, however it is repeated."""
    site = make_site(Site, servers, redis_url=redis_url, config=str(tmp_path / "alerts.toml"))
    site.settings |= {"webhook_url": f"http://127.0.0.1:9/{MARK}", "console_token": TOKEN}
    if site.opensearch is not None:
        site.store_url = site.store_url.replace("//", f"//me:{MARK}%2Fpw@")
    with echoing() as (address, mail):
        channels = [
            f'[[channels]]\nname = "c{number}"\n{keys}' for number, keys in enumerate(tables(address, mail, tmp_path))
        ]
        (tmp_path / "alerts.toml").write_text("\n".join(channels), "utf-8")
        entry_id = site.emit()
        with site.running(fault="before_send:raise") as worker:
            assert 1 == worker.wait(PATIENCE_S), site.log()
        assert "Traceback" in site.log()
        monitor = f"127.0.0.1:{free_port()}"
        with site.running("--log-level", "debug", http_bind=monitor) as worker:
            wait_until(lambda: "AUTH refused with 535" in site.ask("show", entry_id).out, "answered", site)
            wait_until(lambda: "answered 503" in site.ask("show", entry_id).out, "answered", site)
            pages = [httpx.get(f"http://{monitor}/{name}").text for name in ("metrics", "readyz", "healthz")]
            assert "trio_alerts_" in pages[0]
            pages += pages_of_the_console(site, entry_id)
            assert 0 == stop(worker), site.log()
        shown = site.call("show", entry_id)
        assert "***" in shown.out
        commands: list[tuple[str, ...]] = [("channels", "test", f"c{number}") for number in range(len(channels))]
        commands += [("channels",), ("check",), ("list", "--json"), ("show", entry_id), ("show", entry_id, "--json")]
        commands += [("stats",), ("audit",), ("dead", "list"), ("silence", "list"), ("redeliver", entry_id)]
        said = [called.out + called.err for called in (site.ask(*command) for command in commands)]

    kept = everything_in(valkey)
    if site.opensearch is None:
        kept += b"".join(path.read_bytes() for path in tmp_path.glob("alerts.db*"))
    else:
        kept += msgspec.json.encode(site.opensearch.request("GET", f"/{site.index}/_search?size=100"))
    assert entry_id.encode() in kept
    for text in (site.log().encode(), kept, *map(str.encode, said + pages)):
        for disguise in DISGUISES:
            assert disguise not in text.lower(), text
