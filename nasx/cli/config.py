"""`nasx config`: what configs there are, and what one of them says when everything is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

app = typer.Typer(no_args_is_help=True, help="Show what a config says, or list the configs there are.")


@app.command()
def show(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A path, or a name that `nasx config list` shows.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="On top of it.")] = None,
) -> None:
    """Print a config as YAML, everything resolved."""
    from nasx.config.compose import compose, to_yaml  # Hydra takes 0.3 s to import

    text = to_yaml(compose(config, overrides or (), allow_missing=True))
    console = Console()
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        typer.echo(text, nl=False)


@app.command("list")
def list_() -> None:
    """List the experiments, and the choices of every group."""
    from nasx.config.find import known_choices, known_configs, known_groups

    _print_section("experiments: nasx search --config NAME", known_configs())
    for group in known_groups():
        typer.echo()
        _print_section(f"{group}: {group}=NAME", known_choices(group))


def _print_section(title: str, files: Mapping[str, Path]) -> None:
    from nasx.config.find import description

    width = max(map(len, files), default=0)
    typer.echo(title)
    for name, file in sorted(files.items()):
        typer.echo(f"  {name:{width}}  {description(file)}".rstrip())
