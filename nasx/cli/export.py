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
    trial = find_trial(run, arch_id)
    with log.status(f"Exporting {trial.arch_id} ...") as status:  # torch takes seconds to load
        from nasx.export.export import export_trial

        spare_threads(trial)
        options = read_options(
            log, places, other_data=other_data, trust_code=trust_code, train=not no_train, status=status
        )
        (model, *others), source = export_trial(run, trial, format.value, final=final, out=out, options=options)
    print(model)
    log.say(source.origin)
    log.say(f"Also written: {', '.join(file.name for file in others)}")
