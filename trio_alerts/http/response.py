"""Reading one HTTP/1.1 answer: llhttp (in `httptools`) parses, this file adds the bounds and the distrust.

Strict in the head, where a lie in the framing could make one answer look like another's; tolerant where the standard
allows it and nothing is ambiguous, because an answer refused here is a delivered alert that will be sent again.
Behind the final head the status is known, and nothing that follows changes it: a body that is not whole, or not
framed as it should be, ends the answer as `cut`, and its connection is never used again.

Refused (`httpx.RemoteProtocolError`): both Content-Length and Transfer-Encoding, more than one of either, any coding
but `chunked`, folded or malformed header lines, control characters, versions other than 1.0 and 1.1, a change of
protocol, interim answers with a body, a head of more than 64 KiB. Accepted: lines of the head that end in LF alone,
white space after a chunk size, a missing reason phrase, empty lines behind an interim answer.
"""

import re

import httptools
import httpx

MAX_HEAD_BYTES = 65_536  # interim answers included; nginx and Apache allow 8 KiB a line, real heads are below 2 KiB

_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TIMEOUT_S = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*(\d{1,6})\b", re.IGNORECASE)


class AnswerParser:
    """One answer to one request: feed it what arrives until it is `complete`.

    Args:
        max_body_bytes: At most this much of the body is kept; a longer one completes the answer as `truncated`.

    Attributes:
        status: The final status code; interim answers (1xx) are skipped.
        headers: Of the final answer, names in lower case, without trailers and without Content-Encoding: the body
            stays as it was received, because unpacking a hostile one takes a thousand times its size.
        body: What was kept of the body.
        complete: Nothing more is needed to know this answer, or nothing more will come.
        cut: Why the body is not whole, if it is not; the status stands.
        truncated: The body was longer than what was kept.
        reusable: The connection can carry another request: nothing is left to read, and both sides keep it.
        keepalive_s: How long the receiver said that it keeps an idle connection, in seconds.
    """

    __slots__ = (
        *(
            "_after_interim",
            "_codings",
            "_fault",
            "_has_length",
            "_head_done",
            "_interim",
            "_max_body_bytes",
            "_parser",
            "_received",
        ),
        *("body", "complete", "cut", "headers", "keepalive_s", "reusable", "status", "truncated"),
    )

    def __init__(self, max_body_bytes: int) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False
        self.cut: httpx.TransportError | None = None
        self.truncated = False
        self.reusable = False
        self.keepalive_s: int | None = None
        self._max_body_bytes = max_body_bytes
        self._received = 0
        self._codings = 0
        self._has_length = False
        self._head_done = False
        self._interim = False
        self._after_interim = False
        self._fault: str | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def feed(self, data: bytes) -> None:
        """Take the next bytes that arrived (at least one).

        Raises:
            httpx.RemoteProtocolError: This head is not that of an acceptable answer; the connection must be closed.
        """
        parser = self._parser
        if parser is None:
            raise RuntimeError("this answer is complete")
        if not self._received and not data.startswith(b"H"):  # llhttp would take RTSP and leading line ends as well
            raise httpx.RemoteProtocolError("not an HTTP answer")
        self._received += len(data)
        try:
            # In two steps: an answer that is complete before its last byte is fed has something behind its end,
            # which the parser would not tell (it skips line ends, and starts with the next answer).
            parser.feed_data(data[:-1])
            if self.complete:
                self.reusable = False
            else:
                parser.feed_data(data[-1:])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self.end_early(httpx.RemoteProtocolError(f"not an acceptable answer: {self._fault or error}"))
            self.reusable = False
        self._check_bounds()
        if self.complete:
            self._parser = None  # it refers to this object: free both now, not at the next garbage collection

    def feed_eof(self) -> None:
        """Take the end of the connection, which ends a body without a length and cuts any other.

        Raises:
            httpx.RemoteProtocolError: The head is not whole.
        """
        if not self._received:
            raise httpx.RemoteProtocolError("the receiver closed the connection without an answer")
        if not self._head_done:
            raise httpx.RemoteProtocolError("the receiver closed the connection in the head of its answer")
        if self._has_length or self._codings:
            self.end_early(httpx.RemoteProtocolError("the receiver closed the connection in the body of its answer"))
        self.complete = True
        self._parser = None

    def end_early(self, fault: httpx.TransportError) -> None:
        """Take that nothing more will come: behind the final head the answer ends as `cut`.

        Raises:
            httpx.TransportError: `fault`; the head is not whole.
        """
        if not self._head_done:
            raise fault
        self.cut = fault
        self.complete = True
        self.reusable = False
        self._parser = None

    def _check_bounds(self) -> None:
        if self._head_done:
            # The body is bounded where it is kept; this is for what surrounds it (chunk extensions, trailers).
            if not self.complete and self._received > 2 * (MAX_HEAD_BYTES + self._max_body_bytes):
                self._truncate()
        elif self._received > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")

    def _truncate(self) -> None:
        self.complete = self.truncated = True
        self.reusable = False

    def _refuse(self, fault: str) -> None:
        self._fault = fault
        raise ValueError(fault)  # any exception stops the parser; feed() reports the fault

    # What follows is called by the parser, from inside feed_data().

    def on_message_begin(self) -> None:
        """Stop at a second answer, which nobody asked for."""
        if self.complete:
            self._refuse("bytes after the end of the answer")

    def on_status(self, reason: bytes) -> None:
        """Take (a part of) the reason phrase."""
        if not _REASON.fullmatch(reason):
            self._refuse("control characters in the status line")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header line, or after the body one trailer, which says nothing that we need."""
        if self._head_done:
            return
        name = name.lower()
        value = value.rstrip(b" \t")
        if name == b"transfer-encoding":
            self._codings += 1
            if value.lower() != b"chunked" or self._codings > 1:
                self._refuse("a Transfer-Encoding other than chunked")
        elif name == b"content-length":
            self._has_length = True
        elif name == b"keep-alive" and (match := _TIMEOUT_S.search(value)):
            self.keepalive_s = int(match[1])
        if name != b"content-encoding":
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide what the head says about the rest."""
        parser = self._parser
        if parser is None:  # only for the type checker: the parser lives until the answer is complete
            return
        status = parser.get_status_code()
        version = parser.get_http_version()
        # 1.0 has no interim answers; behind one, it is how the parser sees RTSP and ICE.
        versions = {"1.1"} if self._after_interim else {"1.1", "1.0"}
        if version not in versions or status < httpx.codes.CONTINUE:
            self._refuse(f"status {status} in HTTP/{version}")
        if status == httpx.codes.SWITCHING_PROTOCOLS:
            self._refuse("a change of protocol that nobody asked for")
        if status < httpx.codes.OK:
            if self._codings:
                self._refuse("an interim answer with a body")
            self._interim = self._after_interim = True
            self._has_length = False
            self.headers.clear()
            return
        self.status = status
        self._head_done = True
        # Asked here: once the message is complete, the parser has forgotten it and always says no.
        self.reusable = parser.should_keep_alive() and version == "1.1"
        if self._codings:
            # In chunks, a lone LF can make two readers see different bodies: not tolerated.
            parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=False)

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body, as far as there is room."""
        if self._interim:
            self._refuse("an interim answer with a body")
        if self.complete:
            return
        room = self._max_body_bytes - len(self.body)
        self.body += data[:room]
        if len(data) > room:
            self._truncate()
            self._refuse("longer than what is kept")

    def on_message_complete(self) -> None:
        """End the answer, or an interim one before it."""
        if self._interim:
            self._interim = False
        else:
            self.complete = True
