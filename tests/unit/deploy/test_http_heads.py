"""What the endpoint refuses to forward, because somebody behind it could read it in another way."""

from __future__ import annotations

import pytest

from insitu.deploy.http_heads import BadHeadError, Body, read_reply, read_request

POST = b"POST /invocations HTTP/1.1\r\nHost: leeds\r\n"


def test_a_request_is_forwarded_without_what_concerns_this_connection_alone():
    head = read_request(POST + b"Content-Length: 5\r\nConnection: Keep-Alive\r\nAuthorization: Bearer s3cret\r\nX-A: b")
    assert head.forwarded == b"POST /invocations HTTP/1.1\r\nhost: leeds\r\ncontent-length: 5\r\nx-a: b\r\n\r\n"
    assert (head.method, head.length, head.chunked, head.keep_alive) == (b"POST", 5, False, True)
    assert head.token == b"s3cret"


def test_an_old_client_gets_a_host_and_no_kept_connection():
    head = read_request(b"GET /ping HTTP/1.0")
    assert head.forwarded == b"GET /ping HTTP/1.1\r\nhost: insitu\r\n\r\n"
    assert not head.keep_alive


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /ping HTTP/1.1", id="no host"),
        pytest.param(b"GET /ping HTTP/2.0\r\nHost: a", id="another version"),
        pytest.param(b"GET ping HTTP/1.1\r\nHost: a", id="no path"),
        pytest.param(b"GET http://b/ping HTTP/1.1\r\nHost: a", id="a whole address"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a", id="a space in the path"),
        pytest.param(b"G(T /a HTTP/1.1\r\nHost: a", id="a method that is none"),
        pytest.param(b"GET /\x80 HTTP/1.1\r\nHost: a", id="a byte that is not ASCII"),
        pytest.param(POST + b"Host: other", id="two hosts"),
        pytest.param(POST + b"Content-Length: 5\r\nContent-Length: 6", id="two lengths"),
        pytest.param(POST + b"Content-Length: 5\r\nContent-Length: 5", id="a length twice"),
        pytest.param(POST + b"Content-Length: 5, 5", id="two lengths in one"),
        pytest.param(POST + b"Content-Length: +5", id="a length with a sign"),
        pytest.param(POST + b"Content-Length: 0x5", id="a hexadecimal length"),
        pytest.param(POST + b"Content-Length: ", id="an empty length"),
        pytest.param(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked", id="a length and chunks"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked", id="another encoding"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", id="chunks twice"),
        pytest.param(POST + b"Transfer-Encoding : chunked", id="a space before the colon"),
        pytest.param(POST + b" Transfer-Encoding: chunked", id="a header that is folded"),
        pytest.param(POST + b"X: a\nTransfer-Encoding: chunked", id="a bare line feed"),
        pytest.param(POST + b"X: a\rTransfer-Encoding: chunked", id="a bare carriage return"),
        pytest.param(POST + b"X: \0", id="a zero byte"),
        pytest.param(POST + b"Authorization: Bearer a\r\nAuthorization: Bearer b", id="two tokens"),
        pytest.param(POST + b"\r\n".join(b"x%d: 1" % at for at in range(65)), id="too many headers"),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(raw):
    with pytest.raises(BadHeadError):
        read_request(raw)


def test_the_end_of_a_chunked_body_is_found_however_it_is_cut():
    whole = b"5\r\nhello\r\n1;name=value\r\n!\r\n000\r\nTrailer: x\r\n\r\n"
    for size in range(1, len(whole) + 1):
        body, taken = Body(length=0, chunked=True), 0
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        for number, part in enumerate(parts):
            assert not body.done
            taken += body.take(part + (b"POST /next" if number == len(parts) - 1 else b""))
        assert body.done
        assert taken == len(whole)


@pytest.mark.parametrize(
    "raw", [b"5\r\nhelloX\n", b"5\r\nhello\n\r", b"5\nhello", b"-1\r\n", b"g\r\n", b" 5\r\n", b"5" * 2000]
)
def test_chunks_that_are_not_what_they_say_are_refused(raw):
    body = Body(length=0, chunked=True)
    with pytest.raises(BadHeadError):
        body.take(raw)


def test_a_body_of_known_length_ends_there():
    body = Body(length=4, chunked=False)
    assert (body.take(b"ab"), body.done) == (2, False)
    assert (body.take(b"cdPOST"), body.done) == (2, True)
    assert Body(length=0, chunked=False).done


def test_a_reply_is_forwarded_without_its_connection_header():
    head = read_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close", to=b"GET")
    assert head.forwarded == b"HTTP/1.1 200 OK\r\ncontent-length: 7"
    assert (head.length, head.keep_alive) == (7, False)
    assert read_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 7", to=b"HEAD").length == 0


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"HTTP/1.0 200 OK", b"220 smtp"]
)
def test_a_reply_whose_end_would_have_to_be_guessed_is_not_forwarded(raw):
    with pytest.raises(BadHeadError):
        read_reply(raw, to=b"GET")
