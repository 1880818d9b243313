"""`nasx explain`: one network of a run, or its prediction of one image, in figures and plain words."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nasx.cli.options import (
    Device,
    DeviceOption,
    NoTrainOption,
    OtherDataOption,
    PlacesArgument,
    TrustOption,
    choose_run,
    find_trial,
    print_page,
    read_options,
    spare_threads,
)
from nasx.cli.progress import show_step
from nasx.terminal import Console


def explain(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    places: PlacesArgument = None,
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Images shown per class.")] = 2,
    sample: Annotated[
        str | None, typer.Option(help="Explain one image: an image file, or the index of a validation image.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the page; by default next to the weights.")] = None,
    device: DeviceOption = Device.AUTO,
    no_train: NoTrainOption = False,
    other_data: OtherDataOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Explain a network: which classes it separates, which it confuses, at which layer, and by which pixels.

    A network off the front, whose weights the search did not keep, is trained again from its seed.
    """
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)
    with log.status(f"Explaining {trial.arch_id} ...") as status:
        from nasx.workflows import network_pages  # torch and shap take seconds to load

        spare_threads(trial)
        options = read_options(
            log, places, other_data=other_data, trust_code=trust_code, train=not no_train, status=status
        )
        if sample is None:
            written = network_pages.explain(
                run,
                trial,
                samples=samples,
                out=out,
                device=device,
                options=options,
                report=partial(show_step, status),
            )
        else:
            written = network_pages.explain_image(run, trial, sample, out=out, device=device, options=options)
    print_page(written, log)
