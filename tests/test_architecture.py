"""Layers of the package: which may import which, and which heavy libraries are loaded where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nasx

PACKAGE = Path(nasx.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# a package may import from its own layer and from those above its line
LAYERS = [
    {"escaping", "__init__"},
    {"errors", "terminal"},
    {"extras", "files", "machine", "places"},
    {"trial", "pareto", "protocols"},
    {"networks", "data", "config"},
    {"spaces", "introspection", "algorithms", "runs", "backbones"},
    {"training"},
    {"evaluation", "diagnostics"},
    {"reports"},
    {"execution"},
    {"experiment", "trackers"},
    {"workflows", "planning"},
    {"export"},
    {"cli"},
    {"results", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

DOORS = {
    "onnx": set(),  # torch.onnx writes, onnxruntime reads
    "onnxruntime": {"export", "backbones/onnx_stages.py"},
    "deap": {"algorithms/nsga2.py"},
    "sqlite3": {"runs/database.py"},
    "shap": {"introspection", "diagnostics"},
    "ray": {"execution/ray.py", "execution/tuner.py", "execution/cluster.py"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "cli"},
    "typer": {"cli"},
    "datasets": {"data/huggingface.py"},
    "mlflow": {"trackers"},
    "wandb": {"trackers"},
    "pytorch_lightning": {"trackers", "training/fit.py", "training/lightning_module.py"},
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


def test_every_package_has_its_layer():
    assert {room(module) for module in MODULES} == set(RANK)


@pytest.mark.parametrize("directory", [PACKAGE, PACKAGE.parent / "scripts"], ids=["nasx", "scripts"])
def test_no_module_imports_itself_by_way_of_others(directory):
    files = {".".join(f.relative_to(directory.parent).with_suffix("").parts): f for f in directory.rglob("*.py")}
    graph = {name.removesuffix(".__init__"): imports(file) for name, file in files.items()}

    def reached(start):
        found, waiting = set(), [start]
        while waiting:
            new = {n for n in graph.get(waiting.pop(), ()) if n in graph} - found
            found |= new
            waiting += new
        return found

    assert not [name for name in graph if name in reached(name)]


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
        "import nasx.runs, nasx.reports.summary, nasx.reports.tables, nasx.cli.pareto",
        "import nasx.reports.html.load, nasx.reports.html.run_page, nasx.reports.html.server",
        "import nasx.reports.comparison_tables",
        "import nasx.config",
        "from nasx.cli.main import main; main(['--version'])",
    ],
)
def test_what_only_reads_loads_neither_torch_nor_ray_nor_shap(code):
    assert not loaded_by(code) & {"torch", "ray", "shap", "pytorch_lightning", "matplotlib"}


def test_who_plans_trials_or_reads_a_run_does_not_load_lightning():
    assert not loaded_by("import nasx.evaluation.train_and_score, nasx.experiment, nasx.training.recipe") & {
        "pytorch_lightning",
        "ray",
        "shap",
    }
