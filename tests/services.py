"""Real parts as fixtures: a registry, a PostgreSQL server, the base root file system that jobs run on.

    registry            an OCI registry            -> Registry(host, url)
    postgres_database   a fresh database           -> its SQLAlchemy URL
    postgres_url        the server's own database  -> its SQLAlchemy URL
    base_layout         OCI layout with one base   -> its folder
    base                that base, unpacked        -> UnpackedBase(rootfs, digest, python, interpreter, platform)
    base_rootfs         its root file system       -> its folder; read-only, shared by all tests and runs
    azurite             Azure's blob protocol    -> Azurite(endpoint, account, key)
    s3                  S3's protocol            -> S3Server(endpoint, access_key_id, secret_access_key)
    free_port           a function that names a loopback port

Each is the program that a person would run, started on loopback or a unix socket, with its data and log in a temporary
folder, and ended by its process id. `setpriv --pdeathsig` ends it also when the test process is killed. A program that
is missing is a failure that names the package: `make test` installs them, so nothing is skipped for want of one.
"""

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from insitu.images.base import UnpackedBase, build_base, unpack_base
from insitu.images.layout import OciLayout

START_LIMIT_S = 30
STOP_LIMIT_S = 20

Found = TypeVar("Found")


@dataclass(frozen=True)
class Registry:
    """An OCI registry over plain HTTP; `host` is what stands before the repository in a reference."""

    host: str

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            pytest.fail(f"{self.process.args} ended with {self.process.returncode}:\n{self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def program(name: str, package: str, *folders: str) -> str:
    """The path of a program; a failure, never a skip, where it is missing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", *folders])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.fail(f"{name} is missing. hint: `make test` installs it, or apt-get install {package}")
    return found


@contextlib.contextmanager
def service(command: list[str], log: Path, *, stop: signal.Signals = signal.SIGTERM) -> Iterator[Service]:
    """Run a program until the block ends; then `stop` it, and kill it when it does not."""
    setpriv = program("setpriv", "util-linux")
    guarded = [setpriv, f"--pdeathsig={stop.name.removeprefix('SIG')}", *command]
    with log.open("wb") as sink:
        # A group of its own: Ctrl-C at the terminal reaches the tests, which end it in order.
        process = subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        yield Service(process, log)
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], Found | None], running: Service, what: str) -> Found:
    """What `ready` returns as soon as it is something; fails with the log when the program ends or time is up."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        running.check_alive()
        found = ready()
        if found is not None:
            return found
        time.sleep(0.02)
    pytest.fail(f"{what} was not ready in {START_LIMIT_S} s:\n{running.said()}")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that names a loopback port free at this moment; for programs that can't be given port 0."""

    def port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return port


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """`docker-registry`, empty at the session's start, with deletion on and without a password."""
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {accesslog: {disabled: true}, level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"  # it says in its log which port it was given
    )
    command = [program("docker-registry", "docker-registry"), "serve", str(config)]
    with service(command, folder / "log.txt") as running:

        def host() -> str | None:
            said = re.search(r"listening on (127\.0\.0\.1:\d+)", running.said())
            return said[1] if said else None

        found = Registry(wait_until(host, running, "docker-registry"))
        with urllib.request.urlopen(f"{found.url}/v2/", timeout=10) as answer:
            assert answer.status == 200
        yield found


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server on a unix socket that only the tests' user and its own can reach."""

    socket_folder: Path
    user: str
    bin_folder: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.socket_folder}"

    def run(self, command: str, *arguments: str) -> None:
        # The server's own user may log in without a password through its own socket.
        subprocess.run(
            [str(self.bin_folder / command), "-h", str(self.socket_folder), "-U", self.user, *arguments],
            check=True,
            capture_output=True,
            timeout=60,
        )


def unprivileged_user() -> pwd.struct_passwd | None:
    """Who shall run PostgreSQL, which refuses to run as root; none when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.fail("there is neither a user postgres nor a user nobody, and PostgreSQL refuses to run as root")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL server for the session; `postgres_database` has a fresh database for each test."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    # Resolved: its sisters stand beside it, also where a link to it alone is on PATH.
    initdb = Path(program("initdb", "postgresql", *(str(folder) for folder in reversed(installed)))).resolve()
    user = unprivileged_user()
    become = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
    # Not below tmp_path: pytest makes it for us alone, and the server's user has to get in. Short, since the path of a
    # unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="insitu-pg-", dir="/tmp"))
    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        options = [
            "--username=insitu",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        ]
        initialise = ["setpriv", *become, str(initdb), f"--pgdata={folder / 'data'}", *options]
        done = subprocess.run(initialise, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"
        # What is committed need not survive this machine's loss of power, so the disk is not waited for.
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": 200}
        server = [*become, str(initdb.parent / "postgres"), "-D", str(folder / "data")]
        for name, value in settings.items():
            server += ["-c", f"{name}={value}"]
        log = folder / "log.txt"
        # SIGINT is PostgreSQL's "fast" stop: it does not wait for clients.
        with service(server, log, stop=signal.SIGINT) as running:
            found = Postgres(socket_folder=folder, user="insitu", bin_folder=initdb.parent)
            check = [str(initdb.parent / "pg_isready"), "-q", "-h", str(folder), "-U", "insitu", "-d", "postgres"]
            wait_until(lambda: subprocess.run(check, check=False).returncode == 0 or None, running, "postgres")
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_server: Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of a database that no other test has seen; dropped at the end, with its connections."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.run("createdb", name)
    yield postgres_server.url(name)
    postgres_server.run("dropdb", "--force", name)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: Postgres) -> str:
    """The SQLAlchemy URL of the server's own database; for tests that make databases themselves."""
    return postgres_server.url("postgres")


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "insitu"


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Two test processes on one machine make the same thing once."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def base_layout() -> Path:
    """The layout that `make base-image` fills; built now (half a minute) where it never ran on this machine."""
    program("mmdebstrap", "mmdebstrap")
    layout = cache_folder() / "base"
    with one_at_a_time("base"):
        build_base(OciLayout(layout), work_dir=cache_folder())
    return layout


@pytest.fixture(scope="session")
def base(base_layout: Path) -> UnpackedBase:
    """The base as a folder, unpacked once for each machine. Nothing may write to it."""
    layout = OciLayout(base_layout)
    with one_at_a_time("base"):
        found = build_base(layout, work_dir=cache_folder())  # what is there is found, not built again
        return unpack_base(layout, found.digest, cache_folder() / "bases")


@pytest.fixture(scope="session")
def base_rootfs(base: UnpackedBase) -> Path:
    return base.rootfs


AZURITE_ACCOUNT = "devstoreaccount1"
# Azurite's own, which everybody knows (Microsoft Learn, "Use the Azurite emulator"): no secret.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Azurite:
    """A blob service that speaks Azure's protocol at an address of its own."""

    endpoint: str
    account: str = AZURITE_ACCOUNT
    key: str = AZURITE_KEY

    def container(self, name: str) -> Any:
        """A new, empty container, for tests to change what lies in it behind the site's back."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.endpoint, credential=self.key).create_container(name)

    def sas(self, *, permission: str = "rwlc", hours: float = 1) -> str:
        """A token for the whole account, good until so many hours from now."""
        from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

        return generate_account_sas(
            self.account,
            self.key,
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions.from_string(permission),
            datetime.now(UTC) + timedelta(hours=hours),
        )


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azurite's blob service, empty at the session's start. What it holds is on disk, in a temporary folder."""
    folder = tmp_path_factory.mktemp("azurite")
    where = str(cache_folder() / "azurite" / "node_modules" / ".bin")
    options = ["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"]
    command = [program("azurite-blob", "npm, then scripts/bootstrap test", where), *options, "--location", str(folder)]
    with service(command, folder / "log.txt") as running:

        def endpoint() -> str | None:
            said = re.search(r"successfully listens on (http://127\.0\.0\.1:\d+)", running.said())
            return said[1] if said else None

        yield Azurite(f"{wait_until(endpoint, running, 'azurite-blob')}/{AZURITE_ACCOUNT}")


@dataclass(frozen=True)
class S3Server:
    """Speaks S3, keeps all in memory, and asks nobody who they are: a test double, since no real server is packaged."""

    endpoint: str
    access_key_id: str = "insitu-tests"
    secret_access_key: str = "insitu-tests-secret"

    def bucket(self, name: str) -> Any:
        """A client of a new, empty bucket of that name."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )
        client.create_bucket(Bucket=name)
        return client


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on loopback, empty at the session's start."""
    folder = tmp_path_factory.mktemp("s3")
    # A file, not its command: the installed script would be found only where the environment is on PATH.
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with service(command, folder / "log.txt") as running:

        def endpoint() -> str | None:
            said = re.search(r"Running on (http://127\.0\.0\.1:\d+)", running.said())
            return said[1] if said else None

        yield S3Server(wait_until(endpoint, running, "moto.server"))
