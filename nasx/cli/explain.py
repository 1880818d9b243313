"""`nasx explain`: one network of a run in pictures and plain words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nasx.cli.options import Device, DeviceOption, choose_run, find_trial, known_facts, spare_threads
from nasx.errors import SettingError
from nasx.runs.directory import arch_dir

if TYPE_CHECKING:
    from torch import nn

    from nasx.data.dataset import SearchData
    from nasx.experiment import Experiment
    from nasx.introspection.shap import ShapScorer
    from nasx.reports.page import Page
    from nasx.trial import Trial


def explain(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    samples: Annotated[int, typer.Option(help="Images shown of each class.")] = 2,
    sample: Annotated[
        str | None, typer.Option(help="Explain one image: a picture file, or the index of a validation image.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the pages; explanation/ beside the weights.")] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Explain a network: which classes it holds apart, which it confuses, where it separates them, and by what."""
    if samples < 1:
        raise SettingError("--samples", f"must be at least 1, got {samples}.")
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)

    with log.status(f"Explaining {trial.arch_id} ..."):  # torch and shap take seconds to load
        from nasx.diagnostics.explain import explain as explain_network
        from nasx.evaluation.train_and_score import resolve_device
        from nasx.experiment import Experiment
        from nasx.reports.explanation_page import write_explanation

        spare_threads(trial)
        place = resolve_device(device, "--device")
        experiment = Experiment.of_run(run)
        network, data = experiment.trained(run, trial).to(place), experiment.data
        if sample is not None:
            page, directory, files = _explain_image(run, trial, network, data, sample, out)
            _show(page, directory, files, log)
            return
        scorer = _shap_scorer(experiment)
        explanation = explain_network(
            network,
            data,
            scorer=scorer,
            score_seed=experiment.score_seed,
            recorded=trial.evaluation.score(scorer.name),
            samples_per_class=samples,
            seed=trial.seed,
        )
        space: Any = experiment.space
        edges = space.edges(trial.genotype) if hasattr(space, "edges") else None  # not every space has cells
        directory = out or arch_dir(run, trial.arch_id) / "explanation"
        known = known_facts(run, trial.arch_id)
        page, files = write_explanation(explanation, trial, directory, edges=edges, known=known)
    _show(page, directory, files, log)


def _show(page: Page, directory: Path, files: Sequence[Path], log: Console) -> None:
    from nasx.reports.page import page_on_screen

    Console().print(page_on_screen(page))
    log.print(Text(f"Written to {directory}: {', '.join(f.name for f in files)}"), soft_wrap=True)


def _explain_image(
    run: Path, trial: Trial, network: nn.Sequential, data: SearchData, sample: str, out: Path | None
) -> tuple[Page, Path, list[Path]]:
    """One image explained: `sample` is the index of a validation image, or a picture file."""
    from nasx.data.image_files import read_image
    from nasx.diagnostics.explain_image import explain_image
    from nasx.reports.image_page import write_image

    if sample.isdecimal():
        index, n = int(sample), len(data.validation)
        if index >= n:
            raise SettingError("--sample", f"must be below {n}, the number of validation images, got {index}.")
        image, label = data.validation.images[index], int(data.validation.labels[index])
        name, key = f"validation image {index}", sample
    else:
        channels, height, _ = data.shape
        if not Path(sample).is_file():
            raise SettingError("--sample", f"names {sample!r}, which is neither a file nor an index.")
        image, label = read_image(Path(sample), size=height, channels=channels), None
        name, key = Path(sample).name, Path(sample).stem
    directory = out or arch_dir(run, trial.arch_id) / "explanation" / f"image_{key}"
    found = explain_image(network, data, image, name=name, label=label, seed=trial.seed)
    page, files = write_image(found, trial.arch_id, directory)
    return page, directory, files


def _shap_scorer(experiment: Experiment) -> ShapScorer:
    """The run's own SHAP scorer, so that its recorded distances are explained; the default one where it has none."""
    from nasx.introspection.shap import ShapScorer

    scorers = (experiment.scorer, *experiment.also_scored)
    return next((s for s in scorers if isinstance(s, ShapScorer)), ShapScorer())
