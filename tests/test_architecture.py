"""The house: who may import whom, and what must not be loaded where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nasx

PACKAGE = Path(nasx.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# a module may import from its own layer and from those above its line
LAYERS = [
    {"errors", "__init__"},
    {"files", "collector"},
    {"trial", "pareto", "protocols", "rundir", "weights", "early_stopping", "watchdog", "finetuned"},
    {"networks", "data", "introspection"},
    {"spaces", "training", "algorithms", "store", "config"},
    {"evaluation", "tabular", "diagnostics", "integrity", "estimates"},
    {"execution", "reports"},
    {"preparation"},
    {"trackers"},
    {"search", "run", "any_model", "foreign", "finetuning"},
    {"final"},
    {"export"},
    {"results"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

DOORS = {
    "onnx": set(),  # torch.onnx writes, onnxruntime reads
    "onnxruntime": {"export"},
    "deap": {"algorithms/nsga2.py"},
    "sqlite3": {"store/database.py"},
    "shap": {"introspection", "diagnostics"},
    "ray": {"execution/ray_tune.py", "execution/tuner.py", "execution/cluster.py"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "cli"},
    "typer": {"cli"},
    "datasets": {"data/huggingface.py"},
    "mlflow": {"trackers"},
    "wandb": {"trackers"},
    "pytorch_lightning": {"trackers", "training/fitting.py", "training/classifier.py"},
}


def imports(module: Path, *, top_level_only: bool = False) -> set[str]:
    """The dotted names that a module imports at run time."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(module.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))
    return names


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_lower_never_imports_higher(module):
    own = RANK[room(module)]

    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("nasx.")}
    higher = {r for r in rooms if RANK.get(r, -1) > own}
    assert not higher, f"{module.name} imports {higher}"


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library):
    inside = {
        str(module.relative_to(PACKAGE)) for module in MODULES if library in {n.split(".")[0] for n in imports(module)}
    }

    allowed = DOORS[library]
    strangers = {place for place in inside if place not in allowed and place.split("/")[0] not in allowed}
    assert not strangers


def test_algorithms_know_neither_torch_nor_spaces():
    for module in (PACKAGE / "algorithms").glob("*.py"):
        assert not {n for n in imports(module) if n.startswith(("torch", "nasx.spaces", "nasx.networks"))}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import nasx",
        "import nasx.store, nasx.reports.summary, nasx.reports.tables, nasx.cli.pareto",
        "import nasx.cli.gathering, nasx.reports.run_page, nasx.reports.page_server, nasx.reports.comparison_tables",
        "import nasx.config",
        "from nasx.cli.main import main; main(['--version'])",
    ],
)
def test_what_only_reads_loads_neither_torch_nor_ray_nor_shap(code):
    assert not loaded_by(code) & {"torch", "ray", "shap", "pytorch_lightning", "matplotlib"}


def test_who_plans_trials_or_reads_a_run_does_not_load_lightning():
    assert not loaded_by("import nasx.evaluation, nasx.run, nasx.training.recipe") & {
        "pytorch_lightning",
        "ray",
        "shap",
    }
