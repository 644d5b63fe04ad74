"""How a command is registered: with the options that all have, and its errors told in one way.

Every command takes `--json`, `-o`, `-q`, `-v` and `--no-color` without naming them;
a function sees only its own arguments and asks `output.current()` how to speak.
A list has the alias `ls`. The tree of commands is `ROOT`: the name, the module that
holds it and one line, so that help and completion import nothing of it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from insitu.cli.output import Output, use

Function = TypeVar("Function", bound=Callable[..., Any])

_PANEL = "Output"


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


_COMMON: Mapping[str, tuple[Any, Any]] = {
    "said_as_json": (Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_PANEL)], False),
    "said_format": (
        Annotated[Format, typer.Option("--output", "-o", help="How to print.", rich_help_panel=_PANEL)],
        Format.TABLE,
    ),
    "said_quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="Print names or ids alone.", rich_help_panel=_PANEL)],
        False,
    ),
    "said_verbose": (
        Annotated[
            bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.", rich_help_panel=_PANEL)
        ],
        False,
    ),
    "said_no_color": (Annotated[bool, typer.Option("--no-color", help="No colours.", rich_help_panel=_PANEL)], False),
}


_FORMAT_BY_LONG_NAME = Annotated[Format, typer.Option("--output", help="How to print.", rich_help_panel=_PANEL)]


def with_common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the options that all commands have, taken care of before it is called."""
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def run(**arguments: Any) -> Any:
        common = {name: arguments.pop(name) for name in _COMMON}
        use(
            Output(
                as_json=common["said_as_json"] or common["said_format"] is Format.JSON,
                quiet=common["said_quiet"],
                verbose=common["said_verbose"],
                no_color=common["said_no_color"],
            )
        )
        return function(**arguments)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]
    if _claims_o(signature):  # it writes a file, and -o means that one
        added = [one.replace(annotation=_FORMAT_BY_LONG_NAME) if one.name == "said_format" else one for one in added]
    own = [parameter.replace(kind=keyword) for parameter in signature.parameters.values()]
    parameters = [*own, *added]
    run.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _claims_o(signature: inspect.Signature) -> bool:
    notes = [note for one in signature.parameters.values() for note in getattr(one.annotation, "__metadata__", ())]
    # Typer takes the first name of an annotated option for its default until it has looked closer.
    return any("-o" in (getattr(note, "default", None), *(getattr(note, "param_decls", None) or ())) for note in notes)


def group(help_: str) -> typer.Typer:
    """The commands of one noun."""
    return typer.Typer(
        help=help_, no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
    )


def command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Register a function as a command of a noun; `list` is also `ls`."""

    def register(function: Function) -> Function:
        ready = with_common_options(function)
        app.command(name)(ready)
        if name == "list":
            app.command("ls", hidden=True)(ready)
        return function

    return register


def single(function: Callable[..., Any]) -> typer.Typer:
    """A bare verb: one function as a whole command."""
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(with_common_options(function))
    return app


@dataclass(frozen=True)
class Entry:
    module: str  # below insitu.cli; its `app` is the command
    help: str
    panel: str


_START, _WORK, _SITE, _SERVE, _SELF = "Start here", "Work", "At a site", "Serve", "This program"

ROOT: Mapping[str, Entry] = {
    "demo": Entry("demo.command", "Play the whole story on this machine, and clean up.", _START),
    "login": Entry("login", "Log in to a hub; make a signing key if there is none.", _START),
    "whoami": Entry("whoami", "Whom the hub takes you for, and the fingerprint of your key.", _START),
    "doctor": Entry("doctor", "Check this machine, the login and the hub.", _START),
    "run": Entry("run", "Sign a job, say what may leave, and submit it.", _WORK),
    "job": Entry("job", "Jobs: list, show, logs, cancel, wait, schema.", _WORK),
    "env": Entry("env", "Packages for places without internet: export, import.", _WORK),
    "data": Entry("data", "Datasets: what sites offer, and how a steward adds one.", _WORK),
    "model": Entry("model", "Registered models: list, show, tag, alias.", _WORK),
    "image": Entry("image", "OCI images of models: build, list, show.", _SERVE),
    "deploy": Entry("deploy", "Serve a model at a site.", _SERVE),
    "deployment": Entry("deployment", "Deployments: list, show, delete.", _SERVE),
    "predict": Entry("predict", "Ask a deployed model, straight at its address.", _SERVE),
    "agent": Entry("agent", "The process beside the data: init, start, doctor.", _SITE),
    "datastore": Entry("datastore", "Where bytes are at a site: add, list.", _SITE),
    "release": Entry("release", "What waits for a verdict, and what left: list, show, approve, reject.", _SITE),
    "envelope": Entry("envelope", "Kinds of run approved once: create, sign, list, show, revoke.", _SITE),
    "policy": Entry("policy", "What may leave: show, check, schema, diff, test.", _SITE),
    "ledger": Entry("ledger", "The record of what left: show, meter, verify.", _SITE),
    "site": Entry("site", "Sites of a hub: create, list, show.", _SITE),
    "hub": Entry("hub", "The hub: start it, make tokens.", _SELF),
    "version": Entry("version", "Which version this is.", _SELF),
    "completion": Entry("completion", "A script that completes commands in your shell.", _SELF),
}


class RootGroup(TyperGroup):
    """Imports a command's module when it is called, and not for help or completion."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in ROOT.items():
            self.commands[name] = TyperCommand(name=name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(str(name)), rest


def load(name: str) -> Any:
    """The command of that name, with all that it imports."""
    app: typer.Typer = importlib.import_module(f"insitu.cli.{ROOT[name].module}").app
    found = typer.main.get_command(app)
    found.name = name
    return found
