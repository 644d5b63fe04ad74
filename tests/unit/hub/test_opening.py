"""A data folder: who may open it, and what its first opening makes."""

from datetime import UTC, datetime

import pytest

from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.hub.bell import Bell
from insitu.hub.opening import create_token, open_folder
from insitu.hub.settings import HubSettings
from insitu.wire.people import Role

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return HubSettings(data=tmp_path / "hub")


def opened(settings):
    return open_folder(settings, bell=Bell(), clock=lambda: NOW)


def test_a_second_hub_on_the_folder_is_refused_until_the_first_is_gone(settings):
    first = opened(settings)
    with pytest.raises(UnavailableError) as refused:
        opened(settings)
    assert refused.value.code == "hub-running"
    assert "PostgreSQL" in refused.value.hint
    first.close()
    opened(settings).close()


def test_key_and_first_token_are_made_once(settings):
    opened(settings).close()
    key, token = settings.key_file.read_bytes(), settings.admin_token_file.read_text()
    opened(settings).close()
    assert (settings.key_file.read_bytes(), settings.admin_token_file.read_text()) == (key, token)


def test_a_key_that_others_may_read_is_not_used(settings):
    opened(settings).close()
    settings.key_file.chmod(0o644)
    with pytest.raises(UnavailableError) as refused:
        opened(settings)
    assert refused.value.code == "key-exposed"
    settings.key_file.chmod(0o600)
    opened(settings).close()  # the failed try let go of the lock


@pytest.mark.parametrize("running", [True, False])
def test_a_token_is_made_beside_a_running_hub_and_without_one(settings, running):
    hub = opened(settings) if running else None
    token = create_token(settings, "alice", Role.DATA_SCIENTIST, days=7, clock=lambda: NOW)
    assert (token.name, token.role, (token.expires_at - NOW).days) == ("alice", Role.DATA_SCIENTIST, 7)
    if hub is not None:
        hub.close()
    opened(settings).close()


@pytest.mark.parametrize(("name", "days"), [("Not A Name", 7), ("alice", 0), ("alice", 100_000)])
def test_a_token_for_nobody_or_for_ever_is_refused(settings, name, days):
    with pytest.raises(InvalidInputError):
        create_token(settings, name, Role.ADMIN, days=days)


def test_a_folder_that_can_not_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError) as refused:
        create_token(HubSettings(data=tmp_path / "file" / "hub"), "alice", Role.ADMIN)
    assert refused.value.code == "data-folder"


def test_settings_do_not_print_a_database_password(tmp_path):
    settings = HubSettings(data=tmp_path, database_url="postgres://hub:secret@db/hub")
    assert "secret" not in repr(settings)
    assert settings.sqlalchemy_url == "postgresql+psycopg://hub:secret@db/hub"
