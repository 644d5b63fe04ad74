"""The command `insitu`: the one place where it is entered, and where its errors end.

Nothing heavy is imported before a command is known: `insitu --help` starts in milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from insitu.cli import errors
from insitu.cli.commands import RootGroup
from insitu.cli.output import Output, current, use
from insitu.domain.errors import InsituError

app = typer.Typer(
    name="insitu",
    cls=RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train models where the data is. Only what the data's owner allows leaves.",
    epilog="Exit codes: 0 done · 1 failed · 2 usage · 3 denied or waiting for approval · 4 not logged in · 5 no such "
    "thing · 6 hub or site out of reach · 130 Ctrl-C",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"insitu {version('insitu')}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Which version this is.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    # For errors that come before a command has said how it speaks.
    use(Output(as_json="--json" in arguments, no_color="--no-color" in arguments))
    try:
        result = app(args=list(arguments), prog_name="insitu", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except InsituError as exc:
        return errors.report(exc, current())
    except (KeyboardInterrupt, typer.Abort):
        return errors.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has read enough. What is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as exc:  # noqa: BLE001 - here every error ends
        # Typer's own errors about usage have no public base; this is what they have in common.
        if hasattr(exc, "format_message") and hasattr(exc, "exit_code"):
            return errors.report_usage(exc.format_message(), _where(exc), current())  # pyright: ignore[reportAttributeAccessIssue]
        return errors.report_unforeseen(exc, current(), _logs())


def _where(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return getattr(context, "command_path", "insitu")


def _logs() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "insitu"


def main() -> None:
    sys.exit(run(sys.argv[1:]))
