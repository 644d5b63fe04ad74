"""Heads of requests and replies, read strictly, for a proxy that forwards them.

What the process behind could read in another way than this one is refused: that
difference is how a second request is smuggled past a proxy (RFC 9112, section 11.2).
The serving process has a reader of its own, since it stands alone in an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 16 << 10  # bytes
_MAX_HEADERS = 64
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?")
# About one connection, not about the message (RFC 9110, section 7.6.1). The token ends here too:
# the process behind has no use for it.
_NOT_FORWARDED = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"authorization"})


class BadHeadError(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(slots=True)
class RequestHead:
    method: bytes
    forwarded: bytes
    """The head to send on, with its empty line."""
    length: int
    chunked: bool
    keep_alive: bool
    token: bytes
    """What came as a bearer token; empty: none did."""


@dataclass(slots=True)
class ReplyHead:
    status: int
    forwarded: bytes
    """Without the empty line: the proxy adds its own Connection header."""
    length: int
    keep_alive: bool


def read_request(raw: bytes) -> RequestHead:
    """A request's head, without its empty line.

    Raises:
        BadHeadError: it isn't one, or could be read in two ways.
    """
    lines = raw.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise BadHeadError(400, "the request line is not METHOD /path HTTP/1.1")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadHeadError(505, "this server speaks HTTP/1.1")
    headers = _headers(lines[1:])
    fields = dict(headers)
    is_new = parts[2] == b"HTTP/1.1"
    if is_new and b"host" not in fields:
        raise BadHeadError(400, "HTTP/1.1 wants a Host header")
    connection = fields.get(b"connection", b"").lower()
    length, encoding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if encoding is not None and (length is not None or not is_new or encoding.lower() != b"chunked"):
        raise BadHeadError(400, "the transfer encoding must be chunked, without a length")
    kept = [name + b": " + value for name, value in headers if name not in _NOT_FORWARDED]
    if not is_new:
        kept = [line for line in kept if not line.startswith(b"host: ")] + [b"host: insitu"]
    scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
    return RequestHead(
        method=parts[0],
        forwarded=b"\r\n".join([b"%b %b HTTP/1.1" % (parts[0], parts[1]), *kept, b"", b""]),
        length=_length(length),
        chunked=encoding is not None,
        keep_alive=b"close" not in connection if is_new else b"keep-alive" in connection,
        token=token.strip() if scheme.lower() == b"bearer" else b"",
    )


def read_reply(raw: bytes, *, to: bytes) -> ReplyHead:
    """The head of a reply to a request of the method `to`, without its empty line.

    Raises:
        BadHeadError: it isn't one that this proxy forwards.
    """
    lines = raw.split(b"\r\n")
    match = _STATUS.fullmatch(lines[0])
    if not match:
        raise BadHeadError(502, "no HTTP/1.1 reply")
    headers = _headers(lines[1:])
    fields = dict(headers)
    status = int(match[1])
    bodyless = to == b"HEAD" or status in (204, 304) or status < 200
    # Our own serving process always sends a length; guessing where a body ends would be for others.
    if b"transfer-encoding" in fields or (b"content-length" not in fields and not bodyless):
        raise BadHeadError(502, "a reply without a length")
    kept = [name + b": " + value for name, value in headers if name not in _NOT_FORWARDED]
    return ReplyHead(
        status=status,
        forwarded=b"\r\n".join([lines[0], *kept]),
        length=0 if bodyless else _length(fields.get(b"content-length")),
        keep_alive=b"close" not in fields.get(b"connection", b"").lower(),
    )


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > _MAX_HEADERS:
        raise BadHeadError(431, f"more than {_MAX_HEADERS} headers")
    headers: list[tuple[bytes, bytes]] = []
    seen: set[bytes] = set()
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name) or any(sign in value for sign in (b"\n", b"\r", b"\0")):
            raise BadHeadError(400, "a header line is not name: value")
        name = name.lower()
        if name in seen and name in (b"content-length", b"transfer-encoding", b"host", b"authorization", b"connection"):
            raise BadHeadError(400, f"two {name.decode()} headers")
        seen.add(name)
        headers.append((name, value))
    return headers


def _length(text: bytes | None) -> int:
    if text is None:
        return 0
    if not _DIGITS.fullmatch(text):
        raise BadHeadError(400, "the content length is not a number")
    return int(text)


class Body:
    """Says how many of the next bytes belong to a request's body; forwards nothing itself.

    Chunks are followed to find the end, and passed on as they came.
    """

    __slots__ = ("_chunked", "_ending", "_left", "_line", "_trailer", "done")

    def __init__(self, *, length: int, chunked: bool) -> None:
        self._chunked = chunked
        self._left = length
        self._ending = b""
        self._line = b""  # a chunk's size, or a trailer, of which only the begin has come
        self._trailer = False
        self.done = not chunked and length == 0

    def take(self, data: bytes) -> int:
        """How many of the bytes are the body's. Sets `done` at its end.

        Raises:
            BadHeadError: the chunks are not what they say.
        """
        if not self._chunked:
            count = min(self._left, len(data))
            self._left -= count
            self.done = self._left == 0
            return count
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                count = min(self._left, len(data) - at)
                self._left -= count
                at += count
            elif self._ending:
                # The line end after a chunk: anything else is another framing than ours.
                if data[at : at + 1] != self._ending[:1]:
                    raise BadHeadError(400, "a chunk doesn't end where its size says")
                self._ending = self._ending[1:]
                at += 1
            else:
                at = self._read_line(data, at)
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > 1024:
            raise BadHeadError(400, "a chunk's size is too long")
        if end < 0:
            return stop
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise BadHeadError(400, "a chunk's size ends with a bare line feed")
        if self._trailer:
            self.done = line == b"\r\n"
            return stop
        match = _CHUNK_SIZE.fullmatch(line[:-2])
        if not match:
            raise BadHeadError(400, "a chunk's size is not a number")
        size = int(match[1], 16)
        self._trailer = size == 0
        self._left, self._ending = size, b"\r\n" if size else b""
        return stop
