"""Inputs of mode `direct`, as a job reads them: HTTP with ranges, below one address for each input.

    GET  /inputs/<input>            the objects: {"objects": [{"name", "url", "size_bytes", "etag"}, …]}
    GET  /inputs/<input>/           the same as a page of links, which is what `fsspec` lists a folder by
    GET  /inputs/<input>/<object>   its bytes, or one range of them (RFC 9110, 14)
    HEAD /inputs/<input>/<object>   its size and entity tag

The list was made by the agent when the job was put ready, of the dataset version that
it was granted. A name that is not in it is not asked for anywhere. Entity tags are the
keyed digests of the manifest: they name the bytes, and tell nothing of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from insitu.intake.calls import Response
from insitu.intake.feed import Ask, Told

PREFIX = "/inputs/"
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_TAG = '"%s"'


@dataclass(frozen=True)
class Listed:
    """One object, as the agent listed it."""

    number: int
    name: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Head:
    """The answer to a HEAD: no body follows."""

    text: str


Answer = Response | Head | Ask


def write_list(path: Path, objects: list[tuple[str, int, str]]) -> None:
    """The objects of an input (name, size in bytes, entity tag), for the intake. The order gives their numbers."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(objects))
    path.chmod(0o644)
    path.parent.chmod(0o755)


class DirectInput:
    """One input. Its list is read when it is first asked for."""

    def __init__(self, name: str, path: Path, address: str) -> None:
        self.name, self._path = name, path
        self._address = address

    @cached_property
    def objects(self) -> Mapping[str, Listed]:
        rows: list[Any] = json.loads(self._path.read_text())
        return {name: Listed(number, name, size, etag) for number, (name, size, etag) in enumerate(rows)}

    @cached_property
    def index(self) -> bytes:
        listed = [
            {
                "name": one.name,
                "url": f"{self._address}/{quote(one.name)}",
                "size_bytes": one.size_bytes,
                "etag": one.etag,
            }
            for one in self.objects.values()
        ]
        return json.dumps({"objects": listed}, ensure_ascii=False).encode()

    @cached_property
    def page(self) -> bytes:
        links = [f'<a href="{PREFIX}{self.name}/{quote(name)}">{escape(name)}</a><br>' for name in self.objects]
        return "\n".join(["<!doctype html><meta charset=utf-8>", *links, ""]).encode()


class Inputs:
    """All direct inputs of one job."""

    def __init__(self, lists: Mapping[str, Path], address: str) -> None:
        """
        Args:
            lists: for each input, the file that `write_list` wrote.
            address: of the job's gate, as the job sees it.
        """
        self._inputs = {name: DirectInput(name, path, f"{address}{PREFIX}{name}") for name, path in lists.items()}

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """What to say to a call below `PREFIX`; an `Ask` is for the agent to answer."""
        answer = self._answer(method, target, headers)
        if method == "HEAD" and isinstance(answer, Response):
            return Head(_head(answer.status, answer.reason or "OK", len(answer.body), answer.content_type))
        return answer

    def _answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        name, slash, rest = target.partition("?")[0].removeprefix(PREFIX).partition("/")
        found = self._inputs.get(unquote(name))
        if method not in ("GET", "HEAD"):
            return refusal(405, "method", "inputs can be read: GET and HEAD, nothing else")
        if found is None:
            known = ", ".join(self._inputs) or "none"
            return refusal(404, "no-input", f"no input of that name has mode direct; there are: {known}")
        if not rest:
            return Response(200, found.page, "text/html") if slash else Response(200, found.index)
        listed = found.objects.get(unquote(rest, errors="surrogateescape"))
        if listed is None:
            return refusal(404, "no-object", f"no such object in this input; its list is at {PREFIX}{found.name}")
        return _object(method, found.name, listed, headers)


def _object(method: str, input_name: str, listed: Listed, headers: Mapping[str, str]) -> Answer:
    tag = _TAG % listed.etag
    if headers.get("if-match", tag) not in (tag, "*"):
        return refusal(412, "if-match", "the object has another entity tag")
    begin, end, status = 0, listed.size_bytes, "200 OK"
    wanted = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if wanted and wanted.group(0) != "bytes=-" and method == "GET" and headers.get("if-range", tag) == tag:
        begin, end = _bounds(wanted.group(1), wanted.group(2), listed.size_bytes)
        status = "206 Partial Content"
        if begin >= end:
            return Head(_head(416, "Range Not Satisfiable", 0, _BYTES, f"content-range: bytes */{listed.size_bytes}"))
    more = ["accept-ranges: bytes", f"etag: {tag}"]
    if status.startswith("206"):
        more.append(f"content-range: bytes {begin}-{end - 1}/{listed.size_bytes}")
    number, _, reason = status.partition(" ")
    head = _head(int(number), reason, end - begin, _BYTES, *more)
    if method == "HEAD" or begin == end:
        return Head(head)
    return Ask(input_name, listed.number, begin, end - begin, head)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


_BYTES = "application/octet-stream"


def _head(status: int, reason: str, length: int, kind: str, *more: str) -> str:
    lines = [f"HTTP/1.1 {status} {reason}", f"content-type: {kind}", f"content-length: {length}", *more]
    return "\r\n".join([*lines, "", ""])


def refusal(status: int, code: str, what: str) -> Response:
    """An error whose sentence stands where every client shows it: in the status line, too."""
    return Response(status, json.dumps({"error_code": code, "message": what}).encode(), reason=what)


_STATUS = {"object-changed": 409, "object-missing": 409, "store-unreachable": 502}


def refusal_of(told: Told) -> Response:
    """What the agent could not give, as an answer."""
    return refusal(_STATUS.get(told.code, 502), told.code, told.what)
