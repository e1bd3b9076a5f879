"""The HTTP transport against servers that the field uses: nginx, Go's net/http, and hypercorn."""

import importlib.util
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import httpx
import pytest
import trio
from anyio import to_thread

from tests.support.obtain import give_up, obtain
from tests.support.servers import Server, ServerFailedError, UnavailableError
from tests.support.servers.process import free_port
from tests.support.tls import TlsFiles
from trio_alerts.http.request import origin_key, render_request
from trio_alerts.http.socket import PlainSocket, SendProgress
from trio_alerts.http.transport import TrioTransport

MIB = 1_048_576

NGINX_CONF = """
    daemon off;
    master_process off;
    pid {folder}/nginx.pid;
    error_log stderr;
    events {{ worker_connections 512; }}
    http {{
        access_log {folder}/access.log;
        client_body_temp_path {folder}/body;
        proxy_temp_path {folder}/proxy;
        fastcgi_temp_path {folder}/fastcgi;
        uwsgi_temp_path {folder}/uwsgi;
        scgi_temp_path {folder}/scgi;
        keepalive_requests 4;
        keepalive_timeout 60s 20s;
        client_max_body_size 2m;
        default_type text/plain;
        root {folder};
        error_page 405 =200 $uri;
        server {{
            listen 127.0.0.1:{port} backlog=512;
            listen 127.0.0.1:{tls_port} ssl;
            ssl_certificate {cert};
            ssl_certificate_key {key};
            location /hook {{ return 200 "$connection $ssl_session_reused"; }}
            location /gone {{ return 410; }}
            location /empty {{ return 204; }}
            location /moved {{ return 301 /hook; }}
            location /chunked {{ sub_filter_types *; sub_filter small SMALL; return 200 "a small page"; }}
        }}
    }}
"""

GO_SERVER = """
    package main

    import (
        "fmt"
        "io"
        "net/http"
        "os"
        "strings"
        "sync/atomic"
    )

    func main() {
        var taken atomic.Int64
        server := &http.Server{Addr: os.Args[1]}
        http.HandleFunc("/hook", func(w http.ResponseWriter, r *http.Request) {
            body, _ := io.ReadAll(r.Body)
            taken.Add(1)
            fmt.Fprintf(w, "%s %d %s", r.Method, len(body), r.Header.Get("webhook-id"))
        })
        http.HandleFunc("/taken", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, taken.Load()) })
        http.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
            for i := 0; i < 5; i++ {
                fmt.Fprintf(w, "part %d ", i)
                w.(http.Flusher).Flush()
            }
        })
        http.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
            w.Header().Set("Link", "</style.css>")
            w.WriteHeader(103)
            w.WriteHeader(202)
        })
        http.HandleFunc("/huge", func(w http.ResponseWriter, r *http.Request) {
            io.WriteString(w, strings.Repeat("x", 64<<20))
        })
        http.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
            taken.Add(1)
            panic(http.ErrAbortHandler)
        })
        http.HandleFunc("/close-idle", func(w http.ResponseWriter, r *http.Request) {
            server.SetKeepAlivesEnabled(false)
            server.SetKeepAlivesEnabled(true)
        })
        panic(server.ListenAndServe())
    }
"""

# Each answer names the connection by the client's port: it tells which requests shared one.
HYPERCORN_APP = """
    taken = 0

    async def app(scope, receive, send):
        global taken
        if scope["type"] != "http":
            raise NotImplementedError
        length, more = 0, True
        while more:
            message = await receive()
            length, more = length + len(message.get("body", b"")), message.get("more_body", False)
        taken += scope["path"] != "/taken"
        parts = {
            "/taken": [str(taken)],
            "/chunked": [f"part {number} " for number in range(5)],
        }.get(scope["path"], [f"{scope['client'][1]} {length}"])
        headers = [(b"connection", b"close")] if scope["path"] == "/close" else []
        if len(parts) == 1:
            headers.append((b"content-length", str(len(parts[0])).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
        await send({"type": "http.response.body"})
"""

HYPERCORN_CONF = """
    bind = ["127.0.0.1:{port}"]
    worker_class = "trio"
    workers = 0
    keep_alive_timeout = {keep_alive_s}
"""


class NginxServer(Server):
    """The distribution's nginx, as one process, plain and with TLS."""

    name = "nginx"

    def __init__(self, tls: TlsFiles) -> None:
        super().__init__()
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise UnavailableError("nginx is not installed: apt-get install nginx-light")
        self.binary = found
        self._tls = tls
        self.port = self.tls_port = 0

    def configure(self) -> None:
        """Write the configuration and a few files."""
        self.port, self.tls_port = free_port(), free_port()
        conf = NGINX_CONF.format(
            folder=self.folder, port=self.port, tls_port=self.tls_port, cert=self._tls.cert, key=self._tls.key
        )
        (self.folder / "nginx.conf").write_text(textwrap.dedent(conf))
        (self.folder / "big.txt").write_bytes(b"x" * MIB)
        (self.folder / "small.txt").write_text("a small page\n")

    def command(self) -> list[str]:
        """Return nginx's command line, with nothing of the system's own configuration."""
        return [self.binary, "-p", str(self.folder), "-e", "stderr", "-c", str(self.folder / "nginx.conf")]

    def is_ready(self) -> bool:
        """Tell whether the port accepts."""
        return accepts(self.port)


class GoServer(Server):
    """A few lines over Go's net/http, built here: the standard library alone, nothing is fetched."""

    name = "Go's net/http"

    def __init__(self) -> None:
        super().__init__()
        found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if found is None:
            raise UnavailableError("go is not installed: apt-get install golang-go")
        self.go = found
        self.port = 0

    def prepare(self) -> None:
        """Build the server."""
        super().prepare()
        (self.folder / "main.go").write_text(textwrap.dedent(GO_SERVER))
        build = [self.go, "build", "-o", "server", "main.go"]
        environment = {
            **self.environment(),
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "",
            "CGO_ENABLED": "0",
        }
        built = subprocess.run(build, cwd=self.folder, env=environment, capture_output=True, check=False)
        if built.returncode:
            raise ServerFailedError(f"go build failed: {built.stderr.decode()}")

    def configure(self) -> None:
        """Choose the port."""
        self.port = free_port()

    def command(self) -> list[str]:
        """Return the built server's command line."""
        return [str(self.folder / "server"), f"127.0.0.1:{self.port}"]

    def is_ready(self) -> bool:
        """Tell whether the port accepts."""
        return accepts(self.port)


class HypercornServer(Server):
    """Hypercorn with a small ASGI application, as one process.

    Args:
        keep_alive_s: After so long without a request it closes a connection.
    """

    name = "hypercorn"

    def __init__(self, keep_alive_s: float = 60.0) -> None:
        super().__init__()
        if importlib.util.find_spec("hypercorn") is None:
            raise UnavailableError("hypercorn is not installed: pip install hypercorn")
        self.port = 0
        self._keep_alive_s = keep_alive_s

    def configure(self) -> None:
        """Write the application and the configuration."""
        self.port = free_port()
        conf = HYPERCORN_CONF.format(port=self.port, keep_alive_s=self._keep_alive_s)
        (self.folder / "hypercorn.toml").write_text(textwrap.dedent(conf))
        (self.folder / "app.py").write_text(textwrap.dedent(HYPERCORN_APP))

    def command(self) -> list[str]:
        """Return hypercorn's command line."""
        return [sys.executable, "-m", "hypercorn", "--config", "hypercorn.toml", "app:app"]

    def is_ready(self) -> bool:
        """Tell whether the port accepts."""
        return accepts(self.port)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def nginx(tls_files: TlsFiles) -> Iterator[NginxServer]:
    with obtain(lambda: NginxServer(tls_files)) as server:
        yield server


@pytest.fixture(scope="module")
def go() -> Iterator[GoServer]:
    server = obtain(GoServer)
    try:
        with server:
            yield server
    except ServerFailedError as error:
        give_up(str(error))


@pytest.fixture(scope="module")
def hypercorn() -> Iterator[HypercornServer]:
    with obtain(HypercornServer) as server:
        yield server


@pytest.fixture
def transport(tls_files: TlsFiles) -> TrioTransport:
    return TrioTransport(ssl_context=ssl.create_default_context(cafile=str(tls_files.ca)))


async def post(transport: TrioTransport, url: str, body: bytes = b"{}") -> httpx.Response:
    request = httpx.Request("POST", url, content=body, headers={"webhook-id": "1-1"})
    with trio.fail_after(20):
        response = await transport.handle_async_request(request)
    response.read()
    return response


async def test_nginx_answers_are_understood(nginx: NginxServer, transport: TrioTransport) -> None:
    """The same statuses and bodies as through httpx's own transport: empty, chunked, refusing, redirecting."""
    async with transport, httpx.AsyncHTTPTransport() as theirs:
        for path in ("/hook", "/gone", "/empty", "/moved", "/chunked", "/nowhere", "/small.txt"):
            url = f"http://127.0.0.1:{nginx.port}{path}"
            ours = await post(transport, url)
            other = await theirs.handle_async_request(httpx.Request("POST", url, content=b"{}"))
            body = await other.aread()

            assert other.status_code == ours.status_code
            if path != "/hook":  # that one tells the connection's number
                assert body == ours.content
            assert other.headers.get("transfer-encoding") == ours.headers.get("transfer-encoding")
        chunked = await post(transport, f"http://127.0.0.1:{nginx.port}/chunked")

    assert ("chunked", "a SMALL page") == (chunked.headers.get("transfer-encoding"), chunked.text)


async def test_nginx_ends_connections_and_no_request_is_lost(nginx: NginxServer, transport: TrioTransport) -> None:
    """Nginx closes after four requests, and says so: twenty in a row take five connections, without an error."""
    async with transport:
        answers = [await post(transport, f"http://127.0.0.1:{nginx.port}/hook") for _ in range(20)]

    assert [200] * 20 == [answer.status_code for answer in answers]
    assert 5 == len({answer.content for answer in answers})


async def test_nginx_under_concurrency(nginx: NginxServer, transport: TrioTransport) -> None:
    """A thousand requests from fifty tasks: every one is answered, and nothing stays in use."""
    statuses: list[int] = []

    async def twenty() -> None:
        for _ in range(20):
            answer = await post(transport, f"http://127.0.0.1:{nginx.port}/hook")
            statuses.append(answer.status_code)

    async with transport:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(twenty)
        assert " in_use=0 waiting=0 " in repr(transport)

    assert [200] * 1_000 == statuses


async def test_nginx_tls_sessions_are_resumed(nginx: NginxServer, transport: TrioTransport) -> None:
    """The first TLS connection is a full handshake, those after it are resumed."""
    async with transport:
        answers = [await post(transport, f"https://localhost:{nginx.tls_port}/hook") for _ in range(12)]

    reused = [answer.text.split(" ")[1] for answer in answers]
    assert ["."] * 4 + ["r"] * 8 == reused


async def test_nginx_large_bodies(nginx: NginxServer, transport: TrioTransport) -> None:
    """A megabyte of answer is cut with its status known; a request that is too large is refused with 413."""
    async with transport:
        big = await post(transport, f"http://127.0.0.1:{nginx.port}/big.txt")
        over_tls = await post(transport, f"https://localhost:{nginx.tls_port}/big.txt")
        too_large = await post(transport, f"http://127.0.0.1:{nginx.port}/hook", b"x" * 3 * MIB)

    for response in (big, over_tls):
        assert (200, b"x" * 65_536, True) == (response.status_code, response.content, response.extensions["truncated"])
    assert 413 == too_large.status_code


async def test_nginx_restarted_between_requests(nginx: NginxServer, transport: TrioTransport) -> None:
    """Connections that died with the server are noticed before use: no error, nothing sent twice."""
    url = f"http://127.0.0.1:{nginx.port}/hook"
    async with transport:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(post, transport, url)
        await to_thread.run_sync(nginx.restart)

        assert [200] * 5 == [(await post(transport, url)).status_code for _ in range(5)]


async def test_go_answers_are_understood(go: GoServer, transport: TrioTransport) -> None:
    """Content-Length, chunked, early hints, and a body cut at its bound."""
    base = f"http://127.0.0.1:{go.port}"
    async with transport:
        hook = await post(transport, f"{base}/hook", b"x" * 300_000)
        chunked = await post(transport, f"{base}/chunked")
        hints = await post(transport, f"{base}/hints")
        huge = await post(transport, f"{base}/huge")

    assert (200, "POST 300000 1-1") == (hook.status_code, hook.text)
    assert "part 0 part 1 part 2 part 3 part 4 " == chunked.text
    assert (202, b"") == (hints.status_code, hints.content)
    assert (200, 65_536, True) == (huge.status_code, len(huge.content), huge.extensions["truncated"])


async def test_go_aborts_and_nothing_is_repeated(go: GoServer, transport: TrioTransport) -> None:
    """A handler that took the request and broke the connection has been asked exactly once."""
    base = f"http://127.0.0.1:{go.port}"
    progress = SendProgress()
    async with transport:
        before = int((await post(transport, f"{base}/taken")).text)
        request = httpx.Request("POST", f"{base}/abort", content=b"{}")
        with pytest.raises(httpx.TransportError) as caught:
            await transport.exchange(origin_key(request.url), render_request(request, request.content), progress)
        after = int((await post(transport, f"{base}/taken")).text)

    assert isinstance(caught.value, httpx.RemoteProtocolError | httpx.ReadError)
    assert progress.started
    assert 1 == after - before


async def test_go_closes_idle_connections_and_they_are_not_used(go: GoServer, transport: TrioTransport) -> None:
    """Ten idle connections closed by the server are noticed: ten requests in a row, none fails, none is doubled."""
    base = f"http://127.0.0.1:{go.port}"
    async with transport, httpx.AsyncHTTPTransport() as another:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(post, transport, f"{base}/hook")
        before = int((await post(transport, f"{base}/taken")).text)
        await (await another.handle_async_request(httpx.Request("GET", f"{base}/close-idle"))).aread()

        assert [200] * 10 == [(await post(transport, f"{base}/hook")).status_code for _ in range(10)]
        assert 10 == int((await post(transport, f"{base}/taken")).text) - before


async def test_hypercorn_connections_are_used_again(hypercorn: HypercornServer, transport: TrioTransport) -> None:
    """Ten requests in a row, large and small, chunked answers between them: one connection."""
    base = f"http://127.0.0.1:{hypercorn.port}"
    async with transport:
        answers = []
        for number in range(10):
            answers.append(await post(transport, f"{base}/hook", b"x" * 20_000 * number))
            chunked = await post(transport, f"{base}/chunked")

            assert ("chunked", "part 0 part 1 part 2 part 3 part 4 ") == (
                chunked.headers.get("transfer-encoding"),
                chunked.text,
            )

    assert [str(20_000 * number) for number in range(10)] == [answer.text.split(" ")[1] for answer in answers]
    assert 1 == len({answer.text.split(" ")[0] for answer in answers})


async def test_hypercorn_closes_when_it_says_so(hypercorn: HypercornServer, transport: TrioTransport) -> None:
    """`Connection: close` is believed: every request gets a connection of its own, none fails, none is repeated."""
    base = f"http://127.0.0.1:{hypercorn.port}"
    async with transport:
        before = int((await post(transport, f"{base}/taken")).text)
        answers = [await post(transport, f"{base}/close") for _ in range(5)]
        assert "idle=0 " in repr(transport)
        after = int((await post(transport, f"{base}/taken")).text)

    assert [(200, "close")] * 5 == [(answer.status_code, answer.headers.get("connection")) for answer in answers]
    assert 5 == len({answer.text for answer in answers})
    assert 5 == after - before


async def test_hypercorn_closes_idle_connections_and_they_are_not_used(transport: TrioTransport) -> None:
    """The server's idle time-out ends connections without a word: noticed before use, nothing fails or is doubled."""
    with obtain(lambda: HypercornServer(keep_alive_s=1.0)) as server:
        base = f"http://127.0.0.1:{server.port}"
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await post(transport, f"{base}/hook")).text)

        async def ask_five_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)

        async with transport:
            await ask_five_at_once()
            idle = list(transport._pool._idle)
            with trio.fail_after(60):
                for connection in idle:
                    assert isinstance(connection.socket, PlainSocket)
                    await trio.lowlevel.wait_readable(connection.socket._sock)
            assert f"idle={len(idle)} " in repr(transport), "nobody has looked at them yet"
            await ask_five_at_once()
            assert 10 == int((await post(transport, f"{base}/taken")).text)

    ports = [answer.split(" ")[0] for answer in answers]
    assert 10 == len(ports)
    assert set(ports[:5]).isdisjoint(ports[5:])
