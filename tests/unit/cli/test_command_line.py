"""The command line as a whole: light to start, one shape of options and errors, no secrets in arguments."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from insitu.cli import commands, main
from insitu.cli.commands import ROOT, load
from insitu.cli.output import Output, printable, use
from insitu.domain.errors import DeniedError

HEAVY = {"mlflow", "sqlalchemy", "fastapi", "numpy", "uvicorn", "alembic", "pandas", "sklearn"}


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch, tmp_path):
    for name in ("INSITU_HUB_URL", "INSITU_TOKEN", "INSITU_SITE_DIR", "INSITU_HUB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def all_commands():
    """(words, command) of everything that can be called."""
    for name in ROOT:
        found = load(name)
        pending = [((name,), found)]
        while pending:
            words, one = pending.pop()
            below = getattr(one, "commands", None)
            if below is None:
                yield words, one
            else:
                pending += [((*words, word), child) for word, child in below.items()]


ALL = dict(all_commands())


def modules_after(*arguments: str) -> set[str]:
    code = (
        "import sys; from insitu.cli.main import run; run(sys.argv[1:]); "
        "sys.stderr.write('\\nMODULES ' + ' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("MODULES ")[2].split())


def test_help_imports_no_command_and_nothing_heavy():
    imported = modules_after("--help")
    assert not imported & (HEAVY | {"httpx", "pydantic", "cryptography"})
    assert not {name for name in imported if name.startswith(("insitu.hub", "insitu.agent", "insitu.sdk"))}


@pytest.mark.parametrize("arguments", [("job", "list"), ("data", "list"), ("policy", "check", "/nonexistent")])
def test_an_everyday_command_imports_nothing_heavy(arguments):
    assert not modules_after(*arguments) & HEAVY


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_and_the_common_options(words, capsys):
    assert main.run([*words, "--help"]) == 0
    assert capsys.readouterr().out
    options = {option for parameter in ALL[words].params for option in parameter.opts}
    assert {"--json", "--output", "-o", "--quiet", "--verbose", "--no-color"} <= options


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_no_command_takes_a_secret_as_an_argument(words):
    options = {option for parameter in ALL[words].params for option in parameter.opts}
    assert not options & {"--token", "--password", "--secret", "--key"}


@pytest.mark.parametrize("words", [words for words in ALL if words[-1] == "list"], ids=" ".join)
def test_every_list_has_the_alias_ls(words):
    assert (*words[:-1], "ls") in ALL


def test_each_noun_is_told_in_one_line_that_help_shows(capsys):
    assert main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ROOT:
        assert f" {name} " in shown


def test_a_word_that_is_no_command_gets_the_one_that_was_probably_meant(capsys):
    assert main.run(["jobb"]) == 2
    assert "'job'" in capsys.readouterr().err


def test_wrong_usage_is_json_where_json_was_asked_for(capsys):
    assert main.run(["job", "list", "--jsn", "--json"]) == 2
    out = json.loads(capsys.readouterr().out)
    assert out["exit_code"] == 2
    assert out["error"]["code"] == "usage"


def test_nobody_logged_in_is_exit_code_four_with_a_hint(capsys):
    assert main.run(["job", "list"]) == 4
    err = capsys.readouterr().err
    assert "error[not-logged-in]" in err
    assert "hint: run `insitu login" in err


def test_an_error_is_also_one_json_object_on_stdout(capsys):
    assert main.run(["job", "list", "-o", "json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {
            "code": "not-logged-in",
            "what": "nobody is logged in here",
            "hint": "run `insitu login HUB-URL`; it asks for a token from `insitu hub token create`",
        },
        "exit_code": 4,
    }


def a_command_that_raises(monkeypatch, error: BaseException) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(commands, "load", lambda _: _as_command(fails))


def _as_command(function):
    import typer

    return typer.main.get_command(commands.single(function))


def test_a_refusal_shows_rule_measure_and_limit_and_ends_with_three(monkeypatch, capsys):
    error = DeniedError(
        "it stays", code="held", rule="rows-in-model", measure="7 rows", limit="0 rows", hint="train another"
    )
    a_command_that_raises(monkeypatch, error)
    assert main.run(["version"]) == 3
    assert capsys.readouterr().err == (
        "error[held]: it stays\n  rule rows-in-model: 7 rows (limit: 0 rows)\nhint: train another\n"
    )


def test_what_nobody_foresaw_is_one_line_and_its_traceback_a_private_file(monkeypatch, capsys, tmp_path):
    a_command_that_raises(monkeypatch, ZeroDivisionError("a bug"))
    assert main.run(["version"]) == 1
    err = capsys.readouterr().err
    assert "error[unforeseen]" in err
    assert "Traceback" not in err
    (log,) = (tmp_path / "state" / "insitu").iterdir()
    assert str(log) in err
    assert "ZeroDivisionError: a bug" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_the_traceback_is_shown_when_it_is_asked_for(monkeypatch, capsys):
    a_command_that_raises(monkeypatch, ZeroDivisionError("a bug"))
    assert main.run(["version", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_c_is_exit_code_130(monkeypatch):
    a_command_that_raises(monkeypatch, KeyboardInterrupt())
    assert main.run(["version"]) == 130


def test_what_a_job_printed_can_not_move_the_terminals_cursor(capsys):
    use(Output())
    assert "\x1b" not in printable("\x1b[2Jgone\x07")
    Output().show({}, printable("\x1b[2Jgone"))
    assert "\x1b" not in capsys.readouterr().out


def test_text_is_never_taken_for_markup(capsys):
    from insitu.cli.output import fields

    Output().show({}, fields({"name": "[red]not markup[/red] [/x]"}))
    assert "[red]not markup[/red] [/x]" in capsys.readouterr().out


def test_a_database_url_with_a_password_is_refused_as_an_argument(capsys, tmp_path):
    assert main.run(["hub", "start", "--data", str(tmp_path), "--database", "postgresql://hub:secret@db/hub"]) == 2
    captured = capsys.readouterr()
    assert "secret-in-argument" in captured.err
    assert "hub:secret" not in captured.err + captured.out
