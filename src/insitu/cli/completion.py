"""`insitu completion`: what a shell needs to complete commands."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from insitu.cli.commands import single


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")] = Shell.BASH,
) -> None:
    """Print a script; for bash: `insitu completion bash > ~/.local/share/bash-completion/completions/insitu`."""
    from insitu.cli.main import app as root

    # Typer's own protocol: asked in this way, the program prints the script and ends.
    os.environ["_INSITU_COMPLETE"] = f"source_{shell.value}"
    root(args=[], prog_name="insitu")
    sys.exit(1)


app = single(completion)
