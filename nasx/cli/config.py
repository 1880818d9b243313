"""`nasx config`: list the configs, and show one with all values resolved."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.syntax import Syntax

from nasx.escaping import to_json
from nasx.terminal import Console

app = typer.Typer(no_args_is_help=True, help="List the configs, or show the settings of one.")


class Format(StrEnum):
    YAML = "yaml"
    JSON = "json"


@app.command()
def show(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A path, or a name that `nasx config list` shows.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. training.epochs=5.")
    ] = None,
    format: Annotated[Format, typer.Option(help="json: for programs.")] = Format.YAML,  # noqa: A002 - name of the option
    plain: Annotated[bool, typer.Option("--plain", help="YAML without comments, for programs.")] = False,
) -> None:
    """Print a config with all values resolved, and the type and range of each setting as a comment.

    The YAML can be given to --config again.
    """
    from nasx.config.compose import compose  # Hydra takes 0.3 s to import
    from nasx.config.plain import to_yaml

    resolved = compose(config, overrides or (), allow_missing=True)
    if format is Format.JSON:
        print(to_json(resolved))
        return
    if plain:
        print(to_yaml(resolved), end="")
        return
    from nasx.config.render import to_commented_yaml  # not for --plain: it imports the components, some with torch

    text = to_commented_yaml(resolved)
    console = Console()
    if console.is_terminal:
        highlighted = Syntax("", "yaml", background_color="default").highlight(text)
        console.print(highlighted, soft_wrap=True, end="")  # no line breaks within comments: copies stay valid YAML
    else:
        print(text, end="")


@app.command("list")
def list_() -> None:
    """List the experiments, and the choices of every group."""
    from nasx.config.find import known_choices, known_configs, known_groups  # imported only by the command

    _print_section("experiments: nasx search --config NAME", known_configs())
    for group in known_groups():
        print()
        _print_section(f"{group}: {group}=NAME", known_choices(group))


def _print_section(title: str, files: Mapping[str, Path]) -> None:
    from nasx.config.find import description  # imported only by the command

    width = max(map(len, files), default=0)
    print(title)
    for name, file in sorted(files.items()):
        print(f"  {name:{width}}  {description(file)}".rstrip())
