"""A marker in every secret, receivers that repeat all they are sent, and a look at everything that is written."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.program import Site, stop, wait_until
from tests.support.servers import RedisServer

MARK = "S3CR3Tmarker"
KEY = "whsec_" + MARK * 2  # it is base64
HEADERS = f'{{ Authorization = "Bearer {MARK}-token", "X-Api-Key" = "{MARK}=key" }}'


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


@contextmanager
def echoing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
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


def test_no_secret_is_written_anywhere(valkey: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """Neither logs nor records, neither `show` nor `check` have it, however a receiver repeats it."""
    with echoing() as address:
        tables = [
            f'[[channels]]\nname = "c{number}"\nsecret = "{KEY}"\nheaders = {headers}\n'
            f'url = "http://{user}{address}/hooks/{MARK}/%7B{MARK}%7D?token={MARK}+1&{query}"\n'
            for number, (user, headers, query) in enumerate(
                (user, headers, f"form={form}&status={status}{late}")
                for user, headers in (("", HEADERS), (f"us%40er:{MARK}%2Fpw@", "{}"))
                for form, status, late in ((0, 200, ""), (1, 410, ""), (2, 403, ""), (1, 503, "&late"))
            )
        ]
        tables += [
            f'[[channels]]\nname = "k{number}"\n{keys}'
            for number, keys in enumerate(
                (
                    f'kind = "slack"\ntoken = "xoxb-{MARK}"\nroom = "r"\napi_url = "http://{address}/form=0&status=200"\n',
                    f'kind = "slack"\nurl = "http://{address}/services/{MARK}/form=1&status=403"\n',
                    f'kind = "pagerduty"\nrouting_key = "{MARK}0123"\nurl = "http://{address}/form=0&status=400"\n',
                    f'kind = "pagerduty"\nrouting_key = "{MARK}0123"\nurl = "http://{address}/form=1&status=202"\n',
                    f'kind = "email"\nsmtp_url = "smtp://me:{MARK}@127.0.0.1:9"\nsender = "a@b"\nto = ["c@d"]\n',
                    f'kind = "file"\npath = "{tmp_path}/alerts.jsonl"\n',
                )
            )
        ]
        config = tmp_path / "alerts.toml"
        config.write_text("".join(tables), "utf-8")
        settings = {"redis_url": redis_url, "config": str(config), "webhook_url": f"http://127.0.0.1:9/{MARK}"}
        store = tmp_path / "alerts.db"
        site = Site(tmp_path, settings, redis=valkey)
        entry_id = site.emit()
        with site.running() as worker:
            wait_until(lambda: "answered 503" in site.ask("show", entry_id).out, "answered", site)
            assert 0 == stop(worker), site.log()

        shown = site.call("show", entry_id)
        assert "***" in shown.out
        written = [site.log().encode(), store.read_bytes(), shown.out.encode(), shown.err.encode()]
        names = [f"k{number}" for number in range(6)]
        tests = [("channels", "test", name) for name in names]
        for command in (
            *tests,
            ("channels",),
            ("check",),
            ("list", "--json"),
            ("show", entry_id, "--json"),
            ("stats",),
            ("audit",),
        ):
            done = site.call(*command)
            written += [done.out.encode(), done.err.encode()]
        for text in written:
            assert MARK.encode() not in text
            assert MARK.lower().encode() not in text.lower()
            assert b"UzNDUjNUbWFya2Vy" not in text  # base64 of the marker
