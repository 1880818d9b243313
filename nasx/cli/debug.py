"""`nasx debug`: calibration, suspect labels and confused classes of one network of a run; repair of a confusion."""

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


def debug(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    places: PlacesArgument = None,
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    plant: Annotated[
        bool,
        typer.Option(
            "--plant", help="Corrupt 20 % of the training labels, train on them, and count how many are found."
        ),
    ] = False,
    repair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two classes to push apart in 5 more epochs, compared with a control."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of a repair, each with its own seed.")] = 5,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Networks trained without a part of the images, to judge labels more strictly; 0: none. By default 4 "
            "if the network has learned its labels by heart and they take less than a minute.",
        ),
    ] = None,
    review: Annotated[
        bool, typer.Option("--review", help="Also write review.html: decide on suspect labels with the keyboard.")
    ] = False,
    review_images: Annotated[int, typer.Option(min=1, max=2000, help="Images on that page.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Directory of the page; by default next to the weights.")] = None,
    device: DeviceOption = Device.AUTO,
    no_train: NoTrainOption = False,
    other_data: OtherDataOption = False,
    trust_code: TrustOption = False,
) -> None:
    """Debug a network: is its confidence calibrated, which labels look wrong, which classes does it confuse.

    A network off the front, whose weights the search did not keep, is trained again from its seed.
    """
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)
    with log.status(f"Debugging {trial.arch_id} ...") as status:
        from nasx.workflows import network_pages  # torch takes seconds to load

        spare_threads(trial)
        written = network_pages.debug(
            run,
            trial,
            corrupt=plant,
            pair=repair,
            seeds=seeds,
            folds=folds,
            review=review_images if review else 0,
            out=out,
            device=device,
            options=read_options(
                log, places, other_data=other_data, trust_code=trust_code, train=not no_train, status=status
            ),
            report=partial(show_step, status),
        )
    print_page(written, log)
