"""Contract of search spaces: each test runs for every config in configs/space."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nasx.workflows.search
from nasx.config.components import build
from nasx.config.compose import compose
from nasx.errors import ArchitectureError
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.networks.cell import Cell
from nasx.networks.costs import count_parameters
from nasx.networks.operations import OPERATIONS
from nasx.protocols import CountsParameters, HasCells
from nasx.reports.figures.cell import cell_figure
from nasx.runs.journal import Journal
from nasx.trial import TrialStatus, arch_id

TINY = {  # overrides that make the shipped config small
    "nb201": ["space.channels=4", "space.cells=1"],
    "nb201_xnas": ["space.channels=4", "space.cells=1", "space.norm_momentum=0.1"],
    "nb201_size": ["space.widths=[4,6,8]"],
    "nb201_joint": ["space.widths=[4,6]", "space.cells=1"],
    "chain": ["space.max_depth=3", "space.widths=[4,6]", "space.channels=4"],
    "cell_yaml": ["space.channels=4", "space.cells=1"],
    "backbone": ["space.cuts=[stage1,stage2]", "space.projections=[0,4]", "space.hidden=6"],
}
ON_A_BACKBONE = {"backbone"}  # their first stage is pretrained and frozen, the stem of the others is trained
SPACES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "configs" / "space").glob("*.yaml")
    if path.stem != "auto"  # not a space: the plan of a search chooses one
)
EXAMPLES = 10


@cache
def composed(name: str) -> dict:
    return compose("lines", [f"space={name}", *TINY[name]])


@cache
def make(name: str):
    return build(composed(name)["space"], "space")


def genotypes(name: str, n: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Return random connected genotypes."""
    rng, space, found = random.Random(seed), make(name), []
    while len(found) < n:
        genotype = tuple(rng.randrange(size) for size in space.gene_sizes)
        found += [genotype] if space.is_connected(genotype) else []
    return found


def any_genotype(space) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, size - 1) for size in space.gene_sizes))


def build_network(name: str, genotype, shape=(1, 12, 12), n_classes=4, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(name).build(genotype, input_shape=shape, n_classes=n_classes)


def images(shape, n: int = 6) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


pytestmark = pytest.mark.parametrize("name", SPACES)


# --- genes and words ------------------------------------------------------------------------------------------------


def test_the_shipped_config_builds(name):
    assert build(compose("mnist", [f"space={name}"])["space"], "space").name == name


def test_every_gene_and_every_allele_has_a_name(name):
    space = make(name)

    assert len(space.gene_names) == len(set(space.gene_names)) == len(space.gene_sizes)
    for gene, size in enumerate(space.gene_sizes):
        words = space.allele_names(gene)
        assert len(words) == len(set(words)) == size
        assert all(isinstance(word, str) for word in words)


def test_parsing_the_string_form_returns_the_same_network(name):
    space = make(name)

    @settings(max_examples=50, deadline=None)
    @given(any_genotype(space))
    def check(genotype):
        text = space.describe(genotype)
        assert space.describe(space.parse(text)) == text
        assert space.canonical(space.parse(text)) == space.canonical(genotype)

    check()


@pytest.mark.parametrize(
    "text", ["", " ", "nonsense", "|none~0|", "relu", "1:2", "|a~0|+|b~0|c~1|+|d~0|e~1|f~2| 4:x:6"]
)
def test_a_malformed_string_is_reported_in_one_line(name, text):
    with pytest.raises(ArchitectureError) as caught:
        make(name).parse(text)

    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))


# --- identity -------------------------------------------------------------------------------------------------------


def test_the_canonical_form_is_idempotent_and_keeps_connectivity(name):
    space = make(name)

    @settings(max_examples=50, deadline=None)
    @given(any_genotype(space))
    def check(genotype):
        canonical = space.canonical(genotype)
        assert space.canonical(canonical) == canonical
        assert space.is_connected(canonical) == space.is_connected(genotype)
        assert all(0 <= allele < size for allele, size in zip(canonical, space.gene_sizes, strict=True))

    check()


def test_the_same_seed_builds_the_same_weights_whatever_the_encoding(name):
    space = make(name)
    encodings = [g for g in genotypes(name, 200) if space.canonical(g) != g][:8]

    for genotype in encodings:
        one, other = build_network(name, genotype), build_network(name, space.canonical(genotype))
        assert str(one) == str(other)
        for weights, others in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(weights, others)


def test_encodings_with_one_id_compute_the_same_with_the_same_weights(name):
    """Compare cells that are not in canonical form: some way of copying the weights makes them equal."""
    space = make(name)
    if not isinstance(space, HasCells):
        pytest.skip("no cells; its encodings are compared by the networks that they build")
    several = [g for g in genotypes(name, 300) if space.edges(space.canonical(g)) != space.edges(g)]
    several = [g for g in several if len(space.edges(g)) <= 5][:12]

    for genotype in several:
        cell, twin = live_cell(space, genotype), live_cell(space, space.canonical(genotype))
        assert any(agree(cell, other) for other in with_copied_weights(cell, twin)), genotype


def live_cell(space, genotype) -> Cell:
    makers = OPERATIONS if space.name != "cell_yaml" else {n: lambda c, n=n: space._module(n, c) for n in space.alleles}
    cell = Cell(reachable(space.edges(genotype)), 2, makers).double()
    for number, parameter in enumerate(cell.parameters()):  # batch norm scales too: no two operations are alike
        nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(number))
    return cell


def reachable(edges):
    """Return the edges on a path from the first to the last node, found independently of the spaces."""
    last = 3
    fed, useful = {0}, {last}
    for _ in range(last):
        fed |= {e.target for e in edges if e.source in fed}
        useful |= {e.source for e in edges if e.target in useful}
    return [e for e in edges if e.source in fed and e.target in useful]


def with_copied_weights(cell: Cell, twin: Cell):
    """Yield `twin` with the weights of `cell`, for every way to match operations of one kind."""

    def with_weights(some: Cell):
        pairs = zip(some.edges, some.operations, strict=True)
        return [(edge.operation, module) for edge, module in pairs if list(module.parameters())]

    sources, targets = with_weights(cell), with_weights(twin)
    for order in itertools.permutations(sources):
        if [kind for kind, _ in order] == [kind for kind, _ in targets]:
            for (_, source), (_, target) in zip(order, targets, strict=True):
                target.load_state_dict(source.state_dict())
            yield twin


def agree(one: Cell, other: Cell) -> bool:
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.allclose(one.eval()(x), other.eval()(x), atol=1e-9)


def test_settings_are_part_of_the_identity(name):
    space = make(name)
    shipped = build(compose("mnist", [f"space={name}"])["space"], "space")
    genotype = space.canonical(genotypes(name, 1)[0])

    assert arch_id(space.name, space.settings, genotype) != arch_id(shipped.name, shipped.settings, genotype)


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 64, 224])
def test_networks_give_logits_for_images_of_every_size(name, side, channels):
    shape = (channels, side, side)
    for seed in range(2):
        network = build_network(name, genotypes(name, 1, seed)[0], shape, n_classes=5)

        stages = [child for child, _ in network.named_children()]
        assert isinstance(network, nn.Sequential)
        assert (stages[0], stages[-1]) == ("backbone" if name in ON_A_BACKBONE else "stem", "head")
        assert len(stages) >= (2 if name in ON_A_BACKBONE else 3)
        assert network.eval()(images(shape, 2)).shape == (2, 5)


def test_feature_maps_after_the_stem_have_at_most_32_pixels_per_side(name):
    if name in ON_A_BACKBONE:
        pytest.skip("no stem: the cut of the backbone decides the resolution")
    for side in (32, 33, 64, 224):
        maps = build_network(name, genotypes(name, 1)[0], (3, side, side)).eval()[0](images((3, side, side), 1))
        assert 16 < maps.shape[-1] <= 32


def test_every_parameter_gets_a_gradient(name):
    for genotype in genotypes(name, EXAMPLES):
        network = build_network(name, genotype).double()
        logits = network(images((1, 12, 12)).double())
        (logits @ torch.arange(1.0, 5).double()).square().sum().backward()
        dead = [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert not dead, (genotype, dead)


def test_exactly_the_parameters_of_a_backbone_are_frozen(name):
    for genotype in genotypes(name, EXAMPLES):
        parameters = dict(build_network(name, genotype).named_parameters())
        frozen = {n for n, p in parameters.items() if not p.requires_grad}
        assert frozen == {n for n in parameters if n.startswith("backbone.") and name in ON_A_BACKBONE}
        assert frozen < set(parameters)


def test_no_module_works_in_place_or_is_used_twice(name):
    for genotype in genotypes(name, EXAMPLES):
        network = build_network(name, genotype)
        modules = [m for m in network.named_modules(remove_duplicate=False) if not isinstance(m[1], nn.ModuleList)]
        calls: Counter[str] = Counter()
        for path, module in modules:
            assert not getattr(module, "inplace", False)
            module.register_forward_hook(partial(count, calls, path))
        network(images((1, 12, 12)))
        assert calls == dict.fromkeys((path for path, _ in modules), 1)


def count(calls: Counter[str], path: str, *_: object) -> None:
    calls[path] += 1


def test_every_connected_genotype_builds_a_network(name):
    space = make(name)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(any_genotype(space).filter(space.is_connected))
    def check(genotype):
        assert build_network(name, genotype, (1, 8, 8), 3).eval()(images((1, 8, 8), 2)).shape == (2, 3)

    check()


def test_parameters_counted_without_building_are_those_of_the_network(name):
    space = make(name)
    if not isinstance(space, CountsParameters):
        pytest.skip("does not count parameters without building")
    for genotype in genotypes(name, EXAMPLES):
        counted = space.parameters(genotype, input_channels=1, n_classes=4)
        assert counted == count_parameters(build_network(name, genotype))


def test_a_disconnected_genotype_is_not_built(name):
    space = make(name)
    rng = random.Random(0)
    tried = (tuple(rng.randrange(size) for size in space.gene_sizes) for _ in range(3000))
    disconnected = next((g for g in tried if not space.is_connected(g)), None)
    if disconnected is None:
        pytest.skip("every genotype is connected")
    with pytest.raises(ArchitectureError, match="is disconnected: no path leads from its input to its output"):
        build_network(name, disconnected)


def test_initialization_draws_from_torchs_generator_only(name):
    genotype = genotypes(name, 1)[0]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - tests that it is not used
    before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    one = build_network(name, genotype)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002

    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    other, third = build_network(name, genotype), build_network(name, genotype, seed=1)
    same, different = (
        zip(one.parameters(), other.parameters(), strict=True),
        zip(one.parameters(), third.parameters(), strict=True),
    )
    assert all(torch.equal(a, b) for a, b in same)
    assert not all(torch.equal(a, b) for a, b in different)


def test_spaces_and_networks_can_be_pickled(name):
    genotype = genotypes(name, 1)[0]
    space = pickle.loads(pickle.dumps(make(name)))
    network = pickle.loads(pickle.dumps(build_network(name, genotype)))

    assert space.settings == make(name).settings
    assert torch.equal(network.eval()(images((1, 12, 12))), build_network(name, genotype).eval()(images((1, 12, 12))))


# --- with other packages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", [ShapScorer(samples_per_class=3, draws=2, background=4), ActivationScorer()])
def test_scorers_work_on_its_networks(name, scorer):
    labels = torch.arange(24) % 4
    for genotype in genotypes(name, 3):
        score = scorer.score(build_network(name, genotype).eval(), images((1, 12, 12), 24), labels, n_classes=4, seed=0)
        assert 0 <= score.value <= 2


def test_cells_are_drawn(name):
    space = make(name)
    if not isinstance(space, HasCells):
        pytest.skip("no cells: pages print the architecture as text")
    drawn = [edges for genotype in genotypes(name, 12) if (edges := space.edges(genotype))]  # some may have no cell
    for edges in drawn[:3]:
        assert len(cell_figure(edges).axes[0].patches) >= 2
    assert len(drawn) >= 3


def test_a_search_of_eight_candidates_trains_and_scores_its_networks(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # for the features of a backbone
    overrides = [
        "dataset.train_images=120",
        "dataset.noise=0",
        "training.epochs=1",
        "training.batch_size=12",
        "scorer.samples_per_class=2",
        "scorer.draws=1",
        "algorithm=random",
        "algorithm.evaluations=8",
    ]
    overrides += ["space.nodes=3"] if name == "cell_yaml" else []
    config = compose("lines", [f"space={name}", *TINY[name], *overrides])

    loop = nasx.workflows.search.start(config, run_dir=tmp_path / name)

    with Journal.open(loop.run_dir, read_only=True) as store:
        trials = store.trials()
    assert 4 <= len(trials) <= 8  # equal networks are trained once
    outcomes = Counter(trial.status for trial in trials)
    assert outcomes[TrialStatus.FAILED] == 0
    assert outcomes[TrialStatus.COMPLETE] >= 1
