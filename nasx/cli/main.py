"""The `nasx` command: table of commands, and translation of errors to one line and an exit status.

Exit status: 0 success; 2 an error that the user can fix; 128 + n ended by signal n, e.g. 130 by Ctrl-C; 1 a bug, with
its traceback.
A reader that closes stdout early (`| head`) is no error; stdout on a full disk is. stderr may fail without consequence.
`NASX_DEBUG=1` shows the traceback of every error.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

import typer
import typer.core

from nasx import machine, places
from nasx.cli.path_options import checked_paths
from nasx.errors import NasxError, file_problem, first_line, is_out_of_memory
from nasx.escaping import printable, shorten_words
from nasx.execution.interrupt import Interrupted, ignore_signals, interruptible, last_words, settle
from nasx.terminal import discard_unwritten, flush, safe_streams

# command -> (module, attribute, one line of help); modules are imported when their command is called
COMMANDS = {
    "search": ("nasx.cli.search", "search", "Search for accurate, introspectable networks."),
    "pareto": ("nasx.cli.pareto", "pareto", "Show the Pareto front of a run."),
    "explain": ("nasx.cli.explain", "explain", "Explain one network of a run in figures and plain words."),
    "debug": (
        "nasx.cli.debug",
        "debug",
        "Debug one network and its data: calibration, wrong labels, confused classes.",
    ),
    "score": ("nasx.cli.score", "score", "Score any trained classifier: how far apart it holds its classes inside."),
    "compare": ("nasx.cli.compare", "compare", "Compare runs: fronts and hypervolumes, with the variation over seeds."),
    "report": ("nasx.cli.report", "report", "Write the report of a run as one interactive HTML page, or serve it."),
    "train": ("nasx.cli.train", "train", "Train networks of a run in full, with several seeds, and test them once."),
    "export": ("nasx.cli.export", "export", "Export a network with preprocessing, confidence and a model card."),
    "predict": ("nasx.cli.predict", "predict", "Classify images with an exported network."),
    "runs": ("nasx.cli.runs", "app", "List runs, show one, check one."),
    "data": ("nasx.cli.data", "app", "Fetch a dataset, check one, compare its classes, clear the cache."),
    "config": ("nasx.cli.config", "app", "Show and list configs."),
}


# A call that typer cannot parse. typer includes its own click and exports only subclasses
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class LazyGroup(typer.core.TyperGroup):
    """Group of commands that are imported when they are called: `nasx --help` must not load torch."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a stub with the name and the line of help, enough for a list of commands."""
        return typer.core.TyperCommand(name, help=COMMANDS[name][2]) if name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is called, imported."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load(stub.name) if stub else None, rest


def load(name: str | None) -> Any:
    """Import the command of that name, a key of COMMANDS."""
    assert name is not None
    module, attribute, _ = COMMANDS[name]
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(name)(found)
        command = typer.main.get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search for image classifiers that are accurate and introspectable: networks that people can understand.",
)


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        import nasx

        print(f"nasx {nasx.__version__}")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the console script and exit."""
    with safe_streams():
        try:
            status = main(arguments, exits=True)
        except Exception:  # a bug: its traceback may quote text from outside
            sys.excepthook(*sys.exc_info())
            status = 1
    discard_unwritten()
    if status > 128:  # ended by a signal: do not wait for threads and exit handlers of libraries
        os._exit(status)
    sys.exit(status)


def main(arguments: list[str] | None = None, *, exits: bool = False) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: of the command line; None: those of this process.
        exits: whether the process ends after it.
    """
    with safe_streams(), interruptible():
        try:
            status = _run(arguments)
        except Interrupted as interrupted:
            ignore_signals(interrupted.status if exits else None)
            last_words(interrupted.message)
            settle()
            status = interrupted.status
        if (error := flush()) is not None and status == 0:
            return _fail(f"nasx: the output cannot be written ({error.strerror or error}).")
        return status


def _run(arguments: list[str] | None) -> int:
    try:
        machine.limit_threads()
        places.prepare()
        command: Any = typer.main.get_command(app)
        words = checked_paths(sys.argv[1:] if arguments is None else arguments)
        with command.make_context("nasx", words) as context:
            status = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except NasxError as error:
        return _fail(f"nasx: {error}")
    except UsageError as error:
        if not (problem := _usage_problem(error)):  # `nasx` without a command has printed its help
            return 2
        return _fail(f"nasx: {problem} `nasx --help` lists the commands, `nasx COMMAND --help` their options.")
    except (KeyboardInterrupt, typer.Abort):
        print("nasx: interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if is_out_of_memory(error):
            advice = "use fewer or smaller images, a smaller batch, or --device cpu"
            return _fail(f"nasx: out of memory ({first_line(error)}): {advice}.")
        if (sentence := file_problem(error)) is None:
            raise
        return _fail(f"nasx: {sentence}")
    return status if isinstance(status, int) else 0


def _usage_problem(error: Any) -> str:
    """Return what is wrong with a call as one sentence; "" if `nasx` was called without a command."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return str(error)
    option = max(parameter.opts, key=len)
    if not option.startswith("-"):
        option = parameter.metavar or option
    details = getattr(error.__cause__, "errors", None)  # pydantic's, in recent versions of typer
    if details is None:
        text = str(error).strip()
        return f"{option} is missing." if not text or text.startswith("Missing") else f"{option}: {text}"
    first = details()[0]
    expected = {"int_parsing": "an integer", "float_parsing": "a number"}.get(first["type"], "")
    if first["type"] == "greater_than_equal":
        return f"{option} must be at least {first['ctx']['ge']}, got {first['input']}."
    if expected:
        return f"{option} must be {expected}, got {first['input']!r}."
    return f"{option}: {first['msg'].removeprefix('Value error, ')}"


def _fail(message: str) -> int:
    if os.environ.get("NASX_DEBUG") == "1" and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(shorten_words(printable(message)), file=sys.stderr)
    return 2
