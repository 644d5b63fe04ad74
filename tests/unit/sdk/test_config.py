"""A person's settings: where they are, who may read them, and which of two wins."""

from __future__ import annotations

import pytest

from insitu.domain.errors import AuthenticationError
from insitu.sdk.config import Login, UserFolders, load_login, load_or_make_key, save_login


@pytest.fixture
def folders(tmp_path):
    return UserFolders.from_environment({"HOME": str(tmp_path)})


def test_folders_follow_the_xdg_base_directory_specification(tmp_path):
    assert UserFolders.from_environment({"HOME": "/h"}).config.as_posix() == "/h/.config/insitu"
    assert UserFolders.from_environment({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}).config.as_posix() == "/c/insitu"
    assert UserFolders.from_environment({"HOME": "/h", "INSITU_CONFIG": "/own"}).config.as_posix() == "/own"
    assert UserFolders.from_environment({"HOME": "/h", "XDG_CACHE_HOME": "/k"}).cache.as_posix() == "/k/insitu"


def test_a_login_that_was_saved_is_found_again_and_closed_to_others(folders):
    save_login(folders, Login(hub="https://hub.test", token="secret"))
    assert load_login(folders, {}) == Login(hub="https://hub.test", token="secret")
    assert folders.token.stat().st_mode & 0o077 == 0
    assert folders.config.stat().st_mode & 0o077 == 0


def test_the_environment_wins_over_what_was_saved(folders):
    save_login(folders, Login(hub="https://hub.test", token="secret"))
    found = load_login(folders, {"INSITU_HUB_URL": "https://other.test", "INSITU_TOKEN": "other"})
    assert found == Login(hub="https://other.test", token="other")


def test_a_token_is_never_printed_with_a_login():
    assert "secret" not in repr(Login(hub="https://hub.test", token="secret"))


def test_nobody_logged_in_is_an_error_that_says_how(folders):
    with pytest.raises(AuthenticationError) as raised:
        load_login(folders, {})
    assert raised.value.code == "not-logged-in"
    assert "insitu login" in raised.value.hint


def test_the_key_is_made_once_and_closed_to_others(folders):
    first = load_or_make_key(folders)
    assert load_or_make_key(folders).fingerprint == first.fingerprint
    assert folders.key.stat().st_mode & 0o777 == 0o600
