"""What a steward writes of a store, and what a store's refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from insitu.agent.datastores import add_datastore, find_datastore, list_datastores
from insitu.agent.folder import SiteFolder
from insitu.agent.ready_data import one_digit
from insitu.agent.stores.addresses import parse_address
from insitu.agent.stores.check import check_store
from insitu.agent.stores.contract import StoreLoginError
from insitu.agent.stores.credentials import Credentials, from_environment, read_credentials
from insitu.agent.stores.folder import FolderStore
from insitu.agent.stores.meaning import Asked, Refusal, error_of
from insitu.domain.errors import ConflictError, InvalidInputError

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LIST = Asked("list", "https://a.blob.stack.example", "studies")
READ = Asked("read", "https://a.blob.stack.example", "studies", "x.csv")


def code_of(refusal: Refusal, asked: Asked = LIST, **given: str) -> str:
    return error_of(refusal, asked, now=NOW, **given).code


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(), "store-unreachable"),
        (Refusal(503, "ServerBusy"), "store-unreachable"),
        (Refusal(403, "AuthenticationFailed", NOW), "store-key-wrong"),
        (Refusal(403, "SignatureDoesNotMatch"), "store-key-wrong"),
        (Refusal(403, "InvalidAccessKeyId"), "store-key-wrong"),
        (Refusal(403, "ExpiredToken"), "store-token-expired"),
        (Refusal(403, "RequestTimeTooSkewed", NOW + timedelta(hours=2)), "store-clock-skew"),
        (Refusal(403, "AuthenticationFailed", NOW - timedelta(minutes=40)), "store-clock-skew"),
        (Refusal(403, "AuthorizationPermissionMismatch", NOW), "store-list-denied"),
        (Refusal(403, "AccessDenied"), "store-list-denied"),
        (Refusal(404, "ContainerNotFound"), "store-container-missing"),
        (Refusal(404, "NoSuchBucket"), "store-container-missing"),
    ],
)
def test_refusals_are_told_apart(refusal, code):
    assert code_of(refusal) == code


def test_a_reading_tells_what_is_missing_from_what_changed():
    assert code_of(Refusal(404, "BlobNotFound"), READ) == "object-missing"
    assert code_of(Refusal(412, "ConditionNotMet"), READ) == "object-changed"
    assert code_of(Refusal(416, "InvalidRange"), READ) == "object-changed"
    assert code_of(Refusal(403, "AccessDenied"), READ) == "store-read-denied"


def test_a_token_that_has_ended_says_when():
    error = error_of(
        Refusal(403, "AuthenticationFailed", NOW),
        LIST,
        now=NOW,
        sas_token="sv=1&se=2026-11-28T11%3A00%3A00Z&sig=SECRET",
    )
    assert error.code == "store-token-expired"
    assert "2026-11-28 11:00 UTC" in error.why
    assert "SECRET" not in str(error.as_dict())


def test_the_clocks_difference_is_told_in_minutes():
    error = error_of(Refusal(403, "AuthenticationFailed", NOW - timedelta(minutes=40)), LIST, now=NOW)
    assert "40 minutes ahead of" in error.what
    assert error.measure == f"{NOW:%Y-%m-%d %H:%M} UTC here, {NOW - timedelta(minutes=40):%H:%M} there"
    assert error.limit == "15 minutes apart"


def test_a_name_that_a_store_does_not_take_is_no_matter_of_clocks():
    assert code_of(Refusal(400, "InvalidResourceName", NOW - timedelta(hours=2))) == "store-list"


def test_of_a_librarys_message_only_status_code_and_time_are_kept():
    text = (
        "GET http://h/c?sig=SECRET - status code: 403 Forbidden: <Error><Code>AuthenticationFailed</Code>"
        "<Message>…Time:2026-11-28T11:58:00.1Z</Message></Error>"
    )
    assert Refusal.of(text) == Refusal(403, "AuthenticationFailed", datetime(2026, 11, 28, 11, 58, tzinfo=UTC))


@pytest.mark.parametrize(
    ("url", "options", "account", "endpoint"),
    [
        ("az://c", {"endpoint": "https://hospital.blob.local.azurestack.external"}, "hospital", None),
        ("az://c", {"endpoint": "http://127.0.0.1:10000/devstoreaccount1/"}, "devstoreaccount1", None),
        ("az://c", {"endpoint": "https://10.1.2.3", "account": "a1"}, "a1", "https://10.1.2.3"),
        ("az://c", {"account": "a1"}, "a1", "https://a1.blob.core.windows.net"),
        ("azure://c/some/prefix/", {"account": "a1", "api_version": "2019-02-02"}, "a1", None),
    ],
)
def test_an_azure_endpoint_may_have_any_suffix(url, options, account, endpoint):
    found = parse_address(url, **options)
    assert (found.kind, found.container, found.account) == ("azure", "c", account)
    assert found.endpoint == (endpoint or options.get("endpoint", "https://a1.blob.core.windows.net").rstrip("/"))
    assert found.prefix in ("", "some/prefix/")


@pytest.mark.parametrize(
    ("url", "options", "code"),
    [
        ("ftp://c", {}, "datastore-kind"),
        ("az://c", {}, "datastore-account"),
        ("az://", {"account": "a"}, "datastore-url"),
        ("az://c", {"endpoint": "blob.example"}, "datastore-endpoint"),
        ("az://c?sig=x", {"account": "a"}, "datastore-secret"),
        ("s3://key:secret@bucket", {}, "datastore-secret"),
        ("az://c", {"account": "a", "endpoint": "https://x.y/?sv=1&sig=2"}, "datastore-secret"),
        ("az://c", {"account": "a", "api_version": "latest"}, "datastore-api-version"),
        ("s3://b", {"account": "a"}, "datastore-option"),
        ("relative/folder", {}, "datastore-folder"),
        ("/folder", {"endpoint": "https://x.y"}, "datastore-option"),
    ],
)
def test_an_address_that_says_nothing_clear_is_refused(url, options, code):
    with pytest.raises(InvalidInputError) as refused:
        parse_address(url, **options)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        ("azure", "account_key: a2V5", {"account_key": "a2V5"}),
        ("azure", "AZURE_STORAGE_SAS_TOKEN=sv=1&sig=2%3D\n", {"sas_token": "sv=1&sig=2%3D"}),
        ("azure", "# a comment\nexport AZURE_STORAGE_KEY='a2V5=='\n", {"account_key": "a2V5=="}),
        ("s3", "access_key_id: a\nsecret_access_key: b\n", {"access_key_id": "a", "secret_access_key": "b"}),
    ],
)
def test_a_credentials_file_may_be_yaml_or_lines(kind, text, values):
    assert read_credentials(kind, text) == values


@pytest.mark.parametrize(
    "text", ["", "SECRETKEY", "passwort: SECRETKEY", "access_key_id: SECRETKEY", "- SECRETKEY", "{SECRETKEY: ["]
)
def test_a_credentials_file_that_is_none_is_refused_without_a_word_of_it(text):
    with pytest.raises(InvalidInputError) as refused:
        read_credentials("s3", text)
    assert "SECRETKEY" not in str(refused.value.as_dict())


def test_credentials_show_no_value():
    assert "SECRET" not in repr(Credentials("file", {"account_key": "SECRET"}))


def test_of_an_environment_only_its_own_variables_are_read():
    environment = {"AWS_ACCESS_KEY_ID": "a", "AZURE_STORAGE_ACCOUNT_KEY": "k", "PATH": "/bin"}
    assert from_environment("azure", environment) == {"account_key": "k"}
    assert from_environment("folder", environment) == {}


@pytest.fixture
def site(tmp_path) -> SiteFolder:
    return SiteFolder(tmp_path)


def test_a_datastore_is_kept_in_a_file_that_only_its_owner_reads(site):
    endpoint = "https://a.blob.stack.example"
    old = "2019-02-02"
    secret = "account_key: a2V5"
    added = add_datastore(site, "blobs", "az://c/p", endpoint=endpoint, api_version=old, source="file", secret=secret)
    assert find_datastore(site, "blobs") == added
    assert find_datastore(site, "blobs").credentials.get("account_key") == "a2V5"
    assert site.datastores.stat().st_mode & 0o777 == 0o600
    assert "a2V5" not in str(added.as_dict())
    with pytest.raises(ConflictError):
        add_datastore(site, "blobs", "az://c", endpoint=endpoint)
    add_datastore(site, "blobs", "az://d", endpoint=endpoint, replace=True)
    assert [(one.name, one.address.container) for one in list_datastores(site)] == [("blobs", "d")]


def test_folders_that_were_named_before_are_still_known(site, tmp_path):
    site.datastores.write_text(f"private: {{folder: {tmp_path}}}\n")
    assert find_datastore(site, "private").address.folder == str(tmp_path)


def test_without_credentials_in_the_environment_it_says_so(site):
    added = add_datastore(site, "b", "s3://bucket", source="environment")
    with pytest.raises(StoreLoginError) as missing:
        added.open({"PATH": "/bin"})
    assert missing.value.code == "store-no-credentials"


def test_a_check_tries_no_step_behind_one_that_failed(tmp_path):
    address = parse_address(str(tmp_path / "away"))
    steps = check_store(address, lambda: FolderStore(tmp_path / "away"))
    assert [(step.step, step.state) for step in steps] == [
        ("reach", "failed"),
        ("login", "not tried"),
        ("list", "not tried"),
        ("read", "not tried"),
    ]


def test_a_check_of_an_empty_store_reads_nothing(tmp_path):
    steps = check_store(parse_address(str(tmp_path)), lambda: FolderStore(tmp_path))
    assert [step.state for step in steps] == ["ok", "ok", "ok", "not tried"]


@pytest.mark.parametrize(("count", "told"), [(0, 0), (7, 7), (14, 10), (96, 100), (4_321_000_000, 4_000_000_000)])
def test_numbers_leave_with_one_digit(count, told):
    assert one_digit(count) == told
