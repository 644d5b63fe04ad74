"""The real parts that the tests start are there, and each test gets its own of what it may change."""

import urllib.request

from sqlalchemy import create_engine, text

from insitu.images.layout import OciLayout


def test_the_registry_answers_as_an_oci_registry(registry):
    with urllib.request.urlopen(f"{registry.url}/v2/", timeout=10) as answer:
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_database_is_empty_and_takes_tables(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("create table seen (n int)"))
        tables = connection.execute(text("select tablename from pg_tables where schemaname = 'public'")).scalars().all()
    engine.dispose()
    assert tables == ["seen"]


def test_the_next_test_gets_another_database(postgres_database):
    engine = create_engine(postgres_database)
    with engine.connect() as connection:
        found = connection.execute(text("select count(*) from pg_tables where schemaname = 'public'")).scalar()
    engine.dispose()
    assert found == 0


def test_a_port_named_free_can_be_listened_on(free_port):
    assert free_port() != free_port()


def test_the_base_has_the_python_that_it_names(base):
    interpreter = base.rootfs / base.interpreter.lstrip("/")
    assert (interpreter.parent / f"python{base.python}").is_file()


def test_the_layout_holds_the_base_by_its_digest(base_layout, base):
    assert OciLayout(base_layout).has(base.digest)
