"""Contracts of the components that users can add: search spaces, scorers, search algorithms, datasets, executions.

A component is any class with these members; it need not inherit from them. A config names it by `_target_`; the other
keys are the keyword arguments of its constructor. Constructors declare types and ranges (`nasx.config.settings`) or
raise `nasx.errors.SettingError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from nasx.trial import Candidate, Genotype, Score

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from nasx.backbones.pretrained import Pretrained
    from nasx.data.augmentation import Augmentation
    from nasx.data.dataset import LabeledImages
    from nasx.execution.loop import SearchLoop
    from nasx.execution.workers import WorkerPlan
    from nasx.networks.edge import Edge
    from nasx.trial import Evaluator


def _identity(genotype: Genotype) -> Genotype:
    return genotype


def _always(genotype: Genotype) -> bool:
    return True


class SearchSpace(Protocol):
    """Search space: builds networks from genotypes. Immutable and picklable."""

    @property
    def name(self) -> str:
        """Return the short name of the space, e.g. "nb201", which is hashed into every arch_id."""

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        """Return the number of alleles of each gene."""

    @property
    def gene_names(self) -> tuple[str, ...]:
        """Return the name of each gene, e.g. "edge 0->1", for tables and motifs."""

    def allele_names(self, gene: int) -> tuple[str, ...]:
        """Return the names of the alleles of a gene, e.g. ("none", "skip_connect", ...)."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return all other settings that shape the network (widths, depths), as JSON values for the arch_id."""

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the canonical genotype, ideally the same for all encodings of the same network."""

    def is_connected(self, genotype: Genotype) -> bool:
        """Return whether the network has a path from input to output. Must be fast: called before any training."""

    def describe(self, genotype: Genotype) -> str:
        """Return the string form of a genotype, as in publications."""

    def parse(self, text: str) -> Genotype:
        """Return the genotype of a string form. Raises ArchitectureError if it is malformed."""

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return an untrained network.

        Its children are named stages in order; the last one, "head", returns logits (n, n_classes), so that a slice is
        the part of the network after any stage. No in-place activations, no module used twice, no module without
        influence on the logits. Initial weights are drawn from torch's global generator, which the caller seeds.

        Args:
            genotype: Canonical genotype.
            input_shape: (channels, height, width) of an image.
            n_classes: Number of classes.
        """


@runtime_checkable
class HasCells(Protocol):
    """A search space whose networks consist of cells: reports draw the cell. Optional."""

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges of the cell that carry an operation, on a path to the output or not."""


@runtime_checkable
class CountsParameters(Protocol):
    """A search space that counts the parameters of a network without building it. Optional.

    Needed for the objective `parameters` if candidates are looked up in a table without such a column.
    """

    def parameters(self, genotype: Genotype, *, n_classes: int) -> int:
        """Return the number of trainable parameters of the network for color images of up to 32 x 32 pixels."""


@runtime_checkable
class HasBackbone(Protocol):
    """A search space whose networks begin with a pretrained network, as the stage `backbone`. Optional.

    Images are normalized as in its pretraining, and the feature maps of its frozen stages are computed once.
    """

    @property
    def cuts(self) -> tuple[str, ...]:
        """Return the names of the stages after which the pretrained network may be cut."""

    def pretrained(self) -> Pretrained:
        """Return the pretrained network. Raises ConfigError, DataError or ResourceError if it cannot be loaded."""

    def untrained(self) -> Self:
        """Return the space with random weights of the pretrained network. Runs no code that a user has named."""


class Scorer(Protocol):
    """Scorer: measures the introspectability of a trained network. Picklable.

    Subclasses of `nasx.introspection.base.BatchedScorer` receive images as `nasx.data.batches.Pixels`, which is indexed
    like a tensor and normalized batch by batch; other scorers receive a tensor of all images.
    """

    @property
    def name(self) -> str:
        """Return the name of scorer and variant in the journal, e.g. "activations_predicted"."""

    def score(self, network: nn.Sequential, images: Tensor, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        """Return the score of a trained network. It may use a subset of the images.

        Args:
            network: In evaluation mode; must not be changed.
            images: (n, channels, height, width), float32, normalized, on the device of the network.
            labels: (n,), int64 in [0, n_classes).
            n_classes: Number of classes.
            seed: Seed of all random choices; global generators must not be used.

        Raises:
            TrialFailure: With Reason.NO_SCORE if there are fewer than two classes or no finite distance.
        """


@runtime_checkable
class ChecksClasses(Protocol):
    """Scorer that depends on the names of the classes, e.g. by their similarity. Optional."""

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise DataError if the scorer does not fit the classes of the dataset. Called once, before any training."""


@runtime_checkable
class ChecksNetworks(Protocol):
    """Scorer that needs certain stages or layers. Optional."""

    def check_network(self, network: nn.Sequential, images: Tensor) -> None:
        """Raise SettingError if the scorer does not fit a network. Called before any training.

        A search starts if the scorer fits one of a few random networks of its space.

        Args:
            network: Untrained, on the CPU; must not be changed.
            images: A few random images, (n, channels, height, width), float32.
        """


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Optimization problem of a search algorithm, without the space and its networks."""

    gene_sizes: tuple[int, ...]  # number of alleles of each gene
    n_objectives: int
    seed: int  # seed of all random choices
    key: Callable[[Genotype], Genotype] = _identity  # canonical genotype: the same for all encodings of a network
    is_connected: Callable[[Genotype], bool] = _always  # whether the network has a path from input to output
    signs: tuple[int, ...] = ()  # cost = sign * value of each objective: -1 to maximize; (): minimize all
    workers: int = 1  # number of concurrent trials at the start of the run: candidates without costs at a time
    alleles: tuple[tuple[str, ...], ...] = ()  # names of each gene's alleles; (): unnamed
    exact: tuple[bool, ...] = ()  # for each objective, whether it is free of noise, e.g. parameters; (): none is
    is_noisy: bool = True  # whether re-training a network may change its costs; False: never re-train
    initial: tuple[Genotype, ...] = ()  # networks to propose first, in this order: see `AcceptsInitial`


class SearchAlgorithm(Protocol):
    """Search algorithm: proposes genotypes (ask) and receives their costs (tell).

    Constructed with its settings and with `problem`, a `Problem`, which the search supplies.
    The same seed and the same costs must lead to the same candidates, in whatever order the costs arrive. Otherwise
    each candidate must report the costs it depends on, and their order, in `Candidate.heard`, so that a resumed search
    can replay them. Early stopping needs `heard` as well: without it no training is stopped early.
    """

    def ask(self) -> Candidate | None:
        """Return the next candidate, numbered 0, 1, 2, ..., or None if more costs are needed first.

        A candidate with `replicate` above 0 requests another training of a network proposed before, in the order
        1, 2, ... None is allowed only if some candidate is without costs. The sequence does not end: the budget of the
        search ends it.
        """

    def tell(self, number: int, costs: Sequence[float] | None) -> None:
        """Receive the costs of candidate `number`: finite, smaller is better; None if it failed or is infeasible.

        A candidate without costs must not become a parent and is never on a front.
        """


@runtime_checkable
class Replayable(Protocol):
    """Search algorithm that can replay recorded candidates when a search resumes. Optional."""

    def replay(self, candidate: Candidate) -> None:
        """Adopt a recorded candidate as the next proposal, instead of `ask`.

        Raises ValueError if its number is not the next one, or if costs that it depends on were not received.
        """


@runtime_checkable
class AcceptsInitial(Protocol):
    """Search algorithm whose first candidates are those of `Problem.initial`. Needed for a warm start only."""

    initial: tuple[Genotype, ...]


@runtime_checkable
class ReportsOrderDependence(Protocol):
    """Search algorithm that may depend on the order in which costs arrive. Optional; default: it does not."""

    @property
    def depends_on_order(self) -> bool:
        """Return whether the same seed may lead to other candidates if costs arrive in another order."""


@runtime_checkable
class ReportsNoise(Protocol):
    """Evaluator whose costs may be exact, e.g. those of a table. Optional; default: costs are noisy."""

    @property
    def is_noisy(self) -> bool:
        """Return whether another evaluation of a network may have other costs."""


class Dataset(Protocol):
    """Dataset: reads one published file format. The constructor is fast; `train` and `test` read the files."""

    @property
    def name(self) -> str:
        """Return the name of the dataset, e.g. "cifar10", for messages, exported files and the paper's front.

        If it is a class attribute, it is available without the files of the dataset.
        """

    @property
    def augmentation(self) -> Augmentation:
        """Return the augmentation of the training images that preserves their classes."""

    def train(self) -> LabeledImages:
        """Return the official training images, of which the search uses a part for validation.

        Raises DataError, with the file and what to do, if one is missing or damaged.
        """

    def test(self) -> LabeledImages:
        """Return the official test images. A search never calls this method."""


@runtime_checkable
class HasPlaces(Protocol):
    """Dataset or table with settings that only say where its files are or how they are read. Optional.

    `nasx search --resume` and the commands that look at a run accept other values of these settings: the content
    decides, which nasx compares with that at the start of the run. All other settings must stay as they were.
    Settings of other components that are annotated as `pathlib.Path` need no declaration: the file may move, and its
    bytes are compared.
    """

    @property
    def places(self) -> Sequence[str]:
        """Return the names of these settings, e.g. ("root", "cache"); usually a class attribute."""


@runtime_checkable
class HasFiles(Protocol):
    """Dataset whose images are files, so that pages can name and link them. Optional."""

    def path(self, file: str) -> Path:
        """Return the path of an image from its name in `LabeledImages.files`."""


@runtime_checkable
class HasNotices(Protocol):
    """Dataset that reports what it left out, so that a user knows it before a search. Optional."""

    def notices(self) -> Sequence[str]:
        """Return what a user should know about the files, one line each, e.g. how many are no images."""


class Execution(Protocol):
    """Execution: takes jobs from the search loop, evaluates them and returns the results to it."""

    in_process: bool  # whether trials run in the calling thread

    @property
    def plan(self) -> WorkerPlan:
        """Return the number of concurrent trials, which determines the lag of the algorithm, and their resources."""

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """Start workers for the duration of the block, in the background: the caller can read the data meanwhile.

        `imports`: modules to import in the workers. `run` starts workers itself if there are none.
        """

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate jobs until the loop is finished.

        Args:
            loop: Source of the jobs and destination of the results.
            evaluate: Evaluates one job. A failed network is an Evaluation; an exception is a fault of the machine.
            watch: Called in the calling thread after every change; reports progress. Its exceptions end the run.
        """
