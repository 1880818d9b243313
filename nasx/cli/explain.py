"""`nasx explain`: one network of a run in pictures and plain words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nasx.errors import SettingError
from nasx.rundir import CONFIG, arch_dir, find_run, runs_home
from nasx.store import RunStore
from nasx.trial import Trial, resolve_arch_id

if TYPE_CHECKING:
    from nasx.config import Experiment
    from nasx.introspection.attributions import ShapScorer

# Below this a second thread costs more than it brings: on two busy cores the digits took 83 s of CPU time, with one 15.
SMALL_MACS = 5e6


def explain(
    arch_id: Annotated[str, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")],
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    samples: Annotated[int, typer.Option(help="Images shown of each class.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Directory of the pages; explanation/ beside the weights.")] = None,
) -> None:
    """Explain a network: which classes it holds apart, which it confuses, where it separates them, and by what."""
    if samples < 1:
        raise SettingError("--samples", f"must be at least 1, got {samples}.")
    run = find_run(run_dir, runs_home())
    log = Console(stderr=True)
    if run_dir is None:
        log.print(Text(f"The newest run: {run}"), soft_wrap=True)
    trial = _find_trial(run, arch_id)

    with log.status(f"Explaining {trial.arch_id} ..."):  # torch and shap take seconds to load
        import torch

        from nasx import config as configs
        from nasx.diagnostics.explain import explain as explain_network
        from nasx.preparation import score_seed
        from nasx.reports.explanation_files import write_explanation
        from nasx.reports.screen import page_on_screen
        from nasx.run import rebuild

        if trial.metrics.get("macs", 0) < SMALL_MACS:
            torch.set_num_threads(1)
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


def _find_trial(run: Path, prefix: str) -> Trial:
    with RunStore.open(run, read_only=True) as store:
        trials = store.trials()
    arch_id = resolve_arch_id(prefix, [t.arch_id for t in trials])
    return next(t for t in trials if t.arch_id == arch_id)


def _shap_scorer(experiment: Experiment) -> ShapScorer:
    """The run's own SHAP scorer, so that its recorded distances are explained; the default one where it has none."""
    from nasx import config as configs
    from nasx.introspection.attributions import ShapScorer

    nodes = {"scorer": experiment.scorer} | {f"also_scored.{n}": node for n, node in experiment.also_scored.items()}
    scorers = (configs.build(node, group) for group, node in nodes.items())
    return next((s for s in scorers if isinstance(s, ShapScorer)), ShapScorer())
