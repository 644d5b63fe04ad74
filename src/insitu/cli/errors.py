"""Errors as people and programs see them: one shape, on stderr, with an exit code that scripts can tell apart.

    error[policy-invalid]: line 3: sandbx is not a key of a policy
      nothing leaves, nothing runs, until the policy is mended
    hint: did you mean sandbox?

With `--json` the same stands on stdout as `{"error": {…}, "exit_code": n}`. What
nobody foresaw is told in one line and written to a log; its traceback shows with -v.

    0 done   1 failed   2 wrong usage or input   3 denied, or waiting for approval
    4 not known by this token   5 no such thing   6 hub or site out of reach   130 Ctrl-C
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from insitu.cli import output
from insitu.cli.output import Output, printable
from insitu.domain.errors import InsituError

USAGE = 2
INTERRUPTED = 130


def report(error: InsituError, out: Output) -> int:
    """Print a foreseen error; the exit code to end with."""
    if out.as_json:
        _print_json(error.as_dict(), error.exit_code)
    _print(error, out)
    if out.verbose:
        out.err.print(Text("".join(traceback.format_exception(error)), style="dim"))
    return error.exit_code


def report_usage(message: str, where: str, out: Output) -> int:
    """Print what was wrong with the command line itself."""
    error = InsituError(message, code="usage", hint=f"see `{where} --help`")
    if out.as_json:
        _print_json(error.as_dict(), USAGE)
    _print(error, out)
    return USAGE


def report_unforeseen(error: BaseException, out: Output, logs: Path | None) -> int:
    """Print an error that is a fault of this program; its traceback goes to a file that only this user can read."""
    text = "".join(traceback.format_exception(error))
    told = InsituError(
        f"insitu failed in a way that nobody foresaw: {type(error).__name__}",
        code="unforeseen",
        why=printable(str(error))[:300],
        hint=f"the traceback is in {_keep(text, logs)}; -v shows it",
    )
    if out.as_json:
        _print_json(told.as_dict(), told.exit_code)
    _print(told, out)
    if out.verbose:
        out.err.print(Text(text, style="dim"))
    return told.exit_code


def _keep(text: str, logs: Path | None) -> str:
    try:
        folder = logs or Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(prefix="insitu-error-", suffix=".log", dir=folder)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
    except OSError:
        return "no file: the disk refused"
    return name


def _print_json(fields: Mapping[str, str], exit_code: int) -> None:
    sys.stdout.write(json.dumps({"error": dict(fields), "exit_code": exit_code}, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _print(error: InsituError, out: Output) -> None:
    console = out.err
    console.print(Text.assemble((f"error[{error.code}]", "bold red"), ": ", printable(error.what)))
    if error.why:
        console.print(Text(f"  {printable(error.why)}"))
    if error.rule or error.measure:
        console.print(rule_line(error.rule, error.measure, error.limit))
    if error.hint:
        console.print(output.hint(error.hint))


def rule_line(rule: str, measure: str, limit: str) -> Text:
    """`rule rows-in-model: 426 of the dataset's 569 rows (limit: 0 rows)`."""
    line = Text("  ")
    if rule:
        line.append("rule ", "dim").append(printable(rule), "bold")
    if measure:
        line.append(": " if rule else "").append(printable(measure))
    if limit:
        line.append(f" (limit: {printable(limit)})", "dim")
    return line
