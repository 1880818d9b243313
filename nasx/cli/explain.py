"""`nasx explain`: one network of a run in pictures and plain words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nasx.cli.choosing import choose_run, find_trial, spare_threads
from nasx.errors import SettingError
from nasx.rundir import CONFIG, arch_dir

if TYPE_CHECKING:
    from nasx.config import Experiment
    from nasx.introspection.attributions import ShapScorer


def explain(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    samples: Annotated[int, typer.Option(help="Images shown of each class.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Directory of the pages; explanation/ beside the weights.")] = None,
) -> None:
    """Explain a network: which classes it holds apart, which it confuses, where it separates them, and by what."""
    if samples < 1:
        raise SettingError("--samples", f"must be at least 1, got {samples}.")
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trial = find_trial(run, arch_id)

    with log.status(f"Explaining {trial.arch_id} ..."):  # torch and shap take seconds to load
        from nasx import config as configs
        from nasx.diagnostics.explain import explain as explain_network
        from nasx.preparation import score_seed
        from nasx.reports.explanation_files import write_explanation
        from nasx.reports.screen import page_on_screen
        from nasx.run import rebuild

        spare_threads(trial)
        network, data = rebuild(run, trial)
        experiment = configs.read(configs.load_resolved(run / CONFIG))
        scorer = _shap_scorer(experiment)
        explanation = explain_network(
            network,
            data,
            scorer=scorer,
            score_seed=score_seed(experiment),
            recorded=trial.evaluation.score(scorer.name),
            samples_per_class=samples,
            seed=trial.seed,
        )
        space: Any = configs.build(experiment.space, "space")
        edges = space.edges(trial.genotype) if hasattr(space, "edges") else None  # not every space has cells
        directory = out or arch_dir(run, trial.arch_id) / "explanation"
        page, files = write_explanation(explanation, trial, directory, edges=edges)
    Console().print(page_on_screen(page))
    log.print(Text(f"Written to {directory}: {', '.join(f.name for f in files)}"), soft_wrap=True)


def _shap_scorer(experiment: Experiment) -> ShapScorer:
    """The run's own SHAP scorer, so that its recorded distances are explained; the default one where it has none."""
    from nasx import config as configs
    from nasx.introspection.attributions import ShapScorer

    nodes = {"scorer": experiment.scorer} | {f"also_scored.{n}": node for n, node in experiment.also_scored.items()}
    scorers = (configs.build(node, group) for group, node in nodes.items())
    return next((s for s in scorers if isinstance(s, ShapScorer)), ShapScorer())
