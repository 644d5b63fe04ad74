"""What pushing and pulling do when the other side breaks off, wants a login, or lies.

A small registry of our own plays these parts, over a real socket: `docker-registry` can't be told to misbehave.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import AuthenticationError, DeniedError, IntegrityError, InvalidInputError, NotFoundError
from insitu.images import registry as registry_module
from insitu.images.layers import Entry, write_layer
from insitu.images.layout import CONFIG, MANIFEST, OciLayout, canonical_json
from insitu.images.push import pull_image, push_image
from insitu.images.registry import RegistrySettings

QUICK = RegistrySettings(attempts=3, pause=lambda _: None)


class Server(ThreadingHTTPServer):
    part: "Part"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def handle_one(self):
        assert isinstance(self.server, Server)
        part = self.server.part
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        part.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        answer = part.answer(self.command, self.path, self.headers, body)
        if answer is None:  # breaks off
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 - the names that it looks for


class Part:
    """A registry that keeps what it is sent, and does one thing wrong: override `answer`."""

    def __init__(self):
        self.blobs, self.manifests, self.upload, self.seen = {}, {}, b"", []

    def __enter__(self):
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.part = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
        if blob := re.search(r"/blobs/(sha256:\w+)$", path):
            return self.found(self.blobs.get(blob[1]))
        if method == "POST":
            self.upload = b""
            return 202, {"Location": "/v2/m/blobs/uploads/1?state=a"}, b""
        if method == "PATCH":
            self.upload += body
            return 202, {"Location": "/v2/m/blobs/uploads/1?state=b"}, b""
        if "/blobs/uploads/1" in path and method == "GET":
            return 204, {"Range": f"0-{max(len(self.upload) - 1, 0)}"}, b""
        if "/blobs/uploads/1" in path:
            assert "state=" in path  # what the registry put into its address comes back
            self.blobs[f"sha256:{hashlib.sha256(self.upload).hexdigest()}"] = self.upload
            return 201, {}, b""
        wanted = path.rpartition("/")[2]
        if method == "PUT":
            self.manifests[wanted] = self.manifests[digest_of(body)] = body
            return 201, {}, b""
        return self.found(self.manifests.get(wanted))

    @staticmethod
    def found(content):
        return (404, {}, b"{}") if content is None else (200, {"Content-Type": MANIFEST}, content)


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "layout")


@pytest.fixture
def image(layout):
    layer = write_layer(layout, [Entry("f", bytes(range(256)) * 200)], compress=False)
    config = layout.put_blob(canonical_json({"os": "linux", "architecture": "amd64"}), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_oci(),
        "layers": [layer.descriptor.as_oci()],
    }
    return layout.put_manifest(manifest, tag="m:1")


def test_a_broken_upload_goes_on_where_the_registry_says_it_stopped(layout, image, monkeypatch):
    monkeypatch.setattr(registry_module, "_CHUNK_BYTES", 10_000)

    class Breaks(Part):
        broken = False

        def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
            if method == "PATCH" and len(self.upload) == 20_000 and not self.broken:
                self.broken = True
                self.upload += body[:3_000]
                return None
            if method == "PATCH":
                assert headers["Content-Range"].split("-")[0] == str(len(self.upload))
            return super().answer(method, path, headers, body)

    with Breaks() as part:
        push_image(layout, "m:1", f"{part.host}/m:1", settings=QUICK)
        assert part.broken
        assert part.manifests["1"] == layout.read(image.digest)
        assert set(part.blobs) == {digest_of(content) for content in part.blobs.values()}
        layer = layout.manifest(image.digest)["layers"][0]
        assert len(part.blobs[layer["digest"]]) == layer["size"]


def test_a_damaged_blob_is_not_sent(layout, image):
    layer = layout.manifest(image.digest)["layers"][0]["digest"]
    layout.blob_path(layer).write_bytes(b"damaged")
    with Part() as part:
        with pytest.raises(IntegrityError):
            push_image(layout, "m:1", f"{part.host}/m:1", settings=QUICK)
        assert (part.blobs, part.manifests) == ({}, {})


class WantsToken(Part):
    def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
        if path.startswith("/token"):
            if headers.get("Authorization") != "Basic bWU6aHVzaA==":  # me:hush
                return 401, {}, b"{}"
            return 200, {}, json.dumps({"token": "t0ken"}).encode()
        if headers.get("Authorization") != "Bearer t0ken":
            realm = f'Bearer realm="http://{self.host}/token",service="here",scope="repository:m:push"'
            return 401, {"WWW-Authenticate": realm}, b"{}"
        return super().answer(method, path, headers, body)


def test_a_token_is_fetched_with_the_login_and_the_scope_asked_for(layout, image):
    with WantsToken() as part:
        login = RegistrySettings(username="me", password="hush", pause=lambda _: None)
        push_image(layout, "m:1", f"{part.host}/m:1", settings=login)
        assert part.manifests["1"] == layout.read(image.digest)
        assert "/token?service=here&scope=repository%3Am%3Apush" in {path for _, path, _ in part.seen}


def test_a_wrong_password_is_said_without_repeating_it(layout, image):
    with WantsToken() as part:
        login = RegistrySettings(username="me", password="wr0ng", pause=lambda _: None)
        with pytest.raises(AuthenticationError) as refused:
            push_image(layout, "m:1", f"{part.host}/m:1", settings=login)
    assert "wr0ng" not in str(refused.value)
    assert "wr0ng" not in repr(login)


def pulled(part, layout, digest, target):
    for entry in (layout.manifest(digest)["config"], *layout.manifest(digest)["layers"]):
        part.blobs[entry["digest"]] = layout.read(entry["digest"])
    part.manifests[digest] = layout.read(digest)
    return pull_image(target, f"{part.host}/m@{digest}", settings=part.settings)


@pytest.mark.parametrize("lie", [lambda content: content[:-1] + b"!", lambda content: content + b"more"])
def test_a_blob_that_is_not_what_its_digest_says_is_not_kept(layout, image, tmp_path, lie):
    layer = layout.manifest(image.digest)["layers"][0]["digest"]

    class Lies(Part):
        settings = QUICK

        def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
            if path.endswith(layer):
                return self.found(lie(self.blobs[layer]))
            return super().answer(method, path, headers, body)

    target = OciLayout(tmp_path / "target")
    with Lies() as part, pytest.raises(IntegrityError):
        pulled(part, layout, image.digest, target)
    assert not target.has(layer)
    assert not target.has(image.digest)


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(layout, image, tmp_path):
    with Part() as part:
        part.manifests[image.digest] = layout.read(image.digest) + b" "
        with pytest.raises(IntegrityError):
            pull_image(OciLayout(tmp_path / "target"), f"{part.host}/m@{image.digest}", settings=QUICK)


def test_a_login_does_not_follow_to_where_blobs_are_kept(layout, image, tmp_path):
    with Part() as elsewhere:

        class Sends(WantsToken):
            settings = RegistrySettings(username="me", password="hush", pause=lambda _: None)

            def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
                good = headers.get("Authorization") == "Bearer t0ken"
                if good and method == "GET" and "/blobs/" in path:
                    return 307, {"Location": f"http://{elsewhere.host}{path}"}, b""
                return super().answer(method, path, headers, body)

        with Sends() as part:
            elsewhere.blobs = part.blobs
            assert pulled(part, layout, image.digest, OciLayout(tmp_path / "target")) == image.digest
        assert len(elsewhere.seen) == 2
        assert {login for _, _, login in elsewhere.seen} == {""}


def test_a_registry_without_tls_is_refused_before_it_is_asked(layout, image):
    class Downgrades(Part):
        def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
            return 307, {"Location": f"http://registry.example{path}"}, b""

    with Downgrades() as part, pytest.raises(DeniedError) as refused:
        pull_image(layout, f"{part.host}/m@{digest_of(b'x')}", settings=QUICK)
    assert refused.value.rule == "registries-over-tls"


def test_a_tag_alone_is_refused_and_its_digest_of_today_is_told(layout, image):
    class Tells(Part):
        def answer(self, method, path, headers, body) -> tuple[int, dict[str, str], bytes] | None:
            return 200, {"Docker-Content-Digest": image.digest}, b""

    with Tells() as part, pytest.raises(InvalidInputError) as refused:
        pull_image(layout, f"{part.host}/m:1", settings=QUICK)
    assert refused.value.code == "digest-needed"
    assert f"/m@{image.digest}" in refused.value.hint


def test_an_image_that_the_registry_does_not_have_is_not_found(layout):
    with Part() as part, pytest.raises(NotFoundError):
        pull_image(layout, f"{part.host}/m@{digest_of(b'x')}", settings=QUICK)
