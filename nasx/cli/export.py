"""`nasx export`: a network of a run as a file that others can use."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nasx.cli.options import choose_run, find_trial, spare_threads
from nasx.runs.directory import arch_dir


class Format(StrEnum):
    ONNX = "onnx"
    TORCH = "torch"
    SAFETENSORS = "safetensors"


def export(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    format: Annotated[  # noqa: A002 - the name of the option
        Format, typer.Option(help="onnx for any runtime, torch for torch.export, safetensors for weights alone.")
    ] = Format.ONNX,
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    final: Annotated[Path | None, typer.Option(help="Directory of a final training by `nasx train --out`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the files; export/ beside the weights.")] = None,
) -> None:
    """Export a network: pixels in, probabilities and a calibrated confidence out, with a model card beside it.

    The finally trained network where there is one, else the search's weights; the card says which.
    """
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)
    with log.status(f"Exporting {trial.arch_id} ..."):  # torch takes seconds to load
        from nasx.export.export import export as write_model
        from nasx.export.formats import require_onnx
        from nasx.export.source import find_source

        if format is Format.ONNX:  # before anything slow
            require_onnx("onnxscript")
            require_onnx("onnxruntime")
        spare_threads(trial)
        source = find_source(run, trial, final=final)
        directory = out or arch_dir(run, trial.arch_id) / "export"
        model, *beside = write_model(source, format.value, directory)
    typer.echo(model)
    log.print(Text(source.origin), soft_wrap=True)
    log.print(Text(f"Beside it: {', '.join(file.name for file in beside)}"), soft_wrap=True)
