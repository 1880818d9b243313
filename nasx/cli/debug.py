"""`nasx debug`: can a network be trusted, which labels look wrong, what does it confuse, can it be mended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nasx.cli.options import Device, DeviceOption, choose_run, find_trial, known_facts, spare_threads
from nasx.errors import SettingError, did_you_mean
from nasx.runs.directory import arch_dir


def debug(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    plant: Annotated[
        bool, typer.Option("--plant", help="Corrupt 20 % of the training labels, train anew, see how many are found.")
    ] = False,
    repair: Annotated[
        tuple[str, str] | None, typer.Option(help="Two classes to push apart in 5 more epochs, before and after.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="With how many seeds a repair is tried.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Directory of the pages; diagnostics/ beside the weights.")] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Debug a network: how far its confidence can be trusted, which labels look wrong, which classes it confuses."""
    if seeds < 1:
        raise SettingError("--seeds", f"must be at least 1, got {seeds}.")
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)

    with log.status(f"Debugging {trial.arch_id} ...") as status:  # torch takes seconds to load
        from nasx.diagnostics.debug import debug as look_over
        from nasx.diagnostics.label_errors import plant as plant_labels
        from nasx.diagnostics.repair import repair as repair_pair
        from nasx.evaluation.train_and_score import resolve_device
        from nasx.experiment import Experiment
        from nasx.reports.debugging_page import tell_debugging, write_debugging
        from nasx.reports.page import page_on_screen

        place = resolve_device(device, "--device")
        experiment = Experiment.of_run(run)
        experiment.check_weights(run, trial)
        spare_threads(trial)
        pair = None if repair is None else choose_pair(repair, experiment.data.train.class_names)
        augmentation = experiment.dataset.augmentation
        network = experiment.trained(run, trial).to(place)
        distances = {score.scorer: score.distances for score in trial.evaluation.scores}
        found = look_over(network, experiment.data, distances=distances, seed=trial.seed)
        planted = repaired = None
        if plant:
            status.update("Training on corrupted labels ...")
            planted = plant_labels(
                lambda: experiment.untrained(trial.genotype, trial.seed),
                experiment.data,
                experiment.recipe,
                augmentation=augmentation,
                seed=trial.seed,
                device=place,
            )
        if pair is not None:
            status.update("Repairing ...")
            repaired = repair_pair(
                network,
                experiment.data,
                pair,
                experiment.recipe,
                augmentation=augmentation,
                seeds=range(seeds),
                device=place,
            )
        images = experiment.train_indices
        known = known_facts(run, trial.arch_id)
        page = tell_debugging(found, trial, images, planted=planted, repair=repaired, known=known)
        directory = out or arch_dir(run, trial.arch_id) / "diagnostics"
        files = write_debugging(page, found, images, directory)
    Console().print(page_on_screen(page))
    log.print(Text(f"Written to {directory}: {', '.join(f.name for f in files)}"), soft_wrap=True)


def choose_pair(names: tuple[str, str], class_names: Sequence[str]) -> tuple[int, int]:
    """The two classes of these names. Raises SettingError where there is no such class, or twice the same."""
    for name in names:
        if name not in class_names:
            raise SettingError("--repair", f"must name two classes, got {name!r}. {did_you_mean(name, class_names)}")
    if names[0] == names[1]:
        raise SettingError("--repair", f"must name two different classes, got {names[0]!r} twice.")
    return class_names.index(names[0]), class_names.index(names[1])
