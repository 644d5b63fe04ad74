from pathlib import Path

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError
from insitu.images.locks import IndexSettings, lock_requirements, parse_lock, uv_error, uv_settings

HASH = "ab" * 32
WHEEL = "https://files.example/one-1.0-py3-none-any.whl"


def lock(package: str) -> bytes:
    return f'lock-version = "1.0"\ncreated-by = "uv"\n[[packages]]\nname = "one"\n{package}\n'.encode()


def test_a_lock_is_known_by_the_digest_of_its_bytes():
    raw = lock(f'version = "1.0"\nwheels = [{{ url = "{WHEEL}", size = 7, hashes = {{ sha256 = "{HASH}" }} }}]')
    found = parse_lock(raw)
    assert found.digest == digest_of(raw)
    [package] = found.packages
    assert (package.name, package.version) == ("one", "1.0")
    [wheel] = package.wheels
    assert (wheel.filename, wheel.sha256, wheel.size_bytes) == ("one-1.0-py3-none-any.whl", HASH, 7)


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (f'version = "1.0"\nsdist = {{ url = "https://x/one-1.0.tar.gz", hashes = {{ sha256 = "{HASH}" }} }}', "sdist"),
        ('version = "1.0"\nvcs = { type = "git", url = "https://x/one.git", commit-id = "c0ffee" }', "vcs"),
        ('directory = { path = "../one" }', "directory"),
        (f'archive = {{ url = "https://x/one-1.0.zip", hashes = {{ sha256 = "{HASH}" }} }}', "one-1.0.zip"),
        ('version = "1.0"', "nothing"),
    ],
)
def test_what_would_have_to_be_built_is_refused_by_name(package, said):
    with pytest.raises(InvalidInputError) as refused:
        parse_lock(lock(package))
    assert refused.value.rule == "wheels-only"
    assert "one" in refused.value.what
    assert said in str(refused.value)


@pytest.mark.parametrize("hashes", ["", "hashes = {}", 'hashes = { md5 = "00" }', 'hashes = { sha256 = "short" }'])
def test_a_wheel_without_a_sha256_is_refused_by_name(hashes):
    with pytest.raises(InvalidInputError, match="one is locked without a sha256") as refused:
        parse_lock(lock(f'version = "1.0"\nwheels = [{{ url = "{WHEEL}"{", " * bool(hashes)}{hashes} }}]'))
    assert refused.value.rule == "hashed-wheels"


@pytest.mark.parametrize(
    "raw", [b"\xff", b"= not toml", b"", b'lock-version = "2.0"', b'lock-version = "1.0"\npackages = 3']
)
def test_what_is_no_lock_is_refused(raw):
    with pytest.raises(InvalidInputError):
        parse_lock(raw)


@pytest.mark.parametrize("name", ["", "../one", "one two", "--index-url=x", "one\\nexec"])
def test_a_name_that_is_no_package_name_is_refused(name):
    with pytest.raises(InvalidInputError):
        parse_lock(f'lock-version = "1.0"\n[[packages]]\nname = "{name}"\n'.encode())


def test_a_text_that_is_a_lock_is_taken_as_it_is():
    raw = lock(f'version = "1.0"\nwheels = [{{ url = "{WHEEL}", hashes = {{ sha256 = "{HASH}" }} }}]')
    assert lock_requirements(raw.decode(), python="3.11", platform="x86_64-linux") == raw


def test_a_requirement_that_nobody_has_is_named(tmp_path):
    nothing = IndexSettings(no_index=True, find_links=(str(tmp_path),))
    with pytest.raises(InvalidInputError) as refused:
        lock_requirements("no-such-package==1.2", python="3.11", platform="x86_64-linux", index=nothing)
    assert "no-such-package" in refused.value.why


def test_an_unknown_platform_is_refused():
    with pytest.raises(InvalidInputError, match="sparc-solaris"):
        lock_requirements("one", python="3.11", platform="sparc-solaris")


def test_a_password_in_an_index_address_reaches_neither_arguments_nor_errors():
    with uv_settings(IndexSettings(index_url="https://me:hush@index.example/simple")) as arguments:
        assert "hush" not in " ".join(arguments)
        assert Path(arguments[1]).stat().st_mode & 0o777 == 0o600
    assert "hush" not in str(uv_error("failed", b"error: could not fetch https://me:hush@index.example/simple/one"))
