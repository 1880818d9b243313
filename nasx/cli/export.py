"""`nasx export`: write a network of a run as a file that needs no run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nasx.cli.options import (
    NoTrainOption,
    OtherDataOption,
    PlacesArgument,
    TrustOption,
    choose_run,
    find_trial,
    read_options,
    spare_threads,
)
from nasx.places import check_output
from nasx.runs.directory import Place, arch_dir, make_output
from nasx.terminal import Console


class Format(StrEnum):
    ONNX = "onnx"
    TORCH = "torch"
    SAFETENSORS = "safetensors"


def export(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    places: PlacesArgument = None,
    format: Annotated[  # noqa: A002 - the name of the option
        Format, typer.Option(help="onnx for any runtime, torch for torch.export, safetensors for weights only.")
    ] = Format.ONNX,
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    final: Annotated[Path | None, typer.Option(help="Directory of a final training by `nasx train --out`.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the files; by default export/ next to the weights.")
    ] = None,
    no_train: NoTrainOption = False,
    other_data: OtherDataOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Export a network that takes pixels and returns probabilities and a calibrated confidence, with a model card.

    Exports the final training if there is one, else the weights of the search; the card says which. A network off the
    front, whose weights the search did not keep, is trained again from its seed.
    """
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial, place = find_trial(run, arch_id), Place.of(run)
    check_output(out or run)
    with log.status(f"Exporting {trial.arch_id} ...") as status:  # torch takes seconds to load
        from nasx.export.export import export as write_model
        from nasx.export.formats import require_onnx
        from nasx.export.source import find_source

        if format is Format.ONNX:  # before the slow steps
            require_onnx("onnxscript")
            require_onnx("onnxruntime")
        spare_threads(trial)
        options = read_options(
            log, places, other_data=other_data, trust_code=trust_code, train=not no_train, status=status
        )
        source = find_source(run, trial, final=final, options=options)
        directory = out or arch_dir(run, trial.arch_id, "export")
        place.check()
        make_output(directory)
        model, *others = write_model(source, format.value, directory)
    print(model)
    log.say(source.origin)
    log.say(f"Also written: {', '.join(file.name for file in others)}")
