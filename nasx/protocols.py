"""All that a user can add: search spaces, scorers, search algorithms, datasets. Each contract in prose.

Any class with these members will do; nothing need be inherited. A config names it by `_target_`, its other keys are
the constructor's keyword arguments. Constructors check ranges and raise `nasx.errors.SettingError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nasx.trial import Candidate, Genotype, Score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.data.augmentation import Augmentation
    from nasx.data.dataset import LabelledImages
    from nasx.execution.loop import SearchLoop
    from nasx.execution.workers import WorkerPlan
    from nasx.networks.edge import Edge
    from nasx.trial import Evaluator


def _itself(genotype: Genotype) -> Genotype:
    return genotype


def _always(genotype: Genotype) -> bool:
    return True


class SearchSpace(Protocol):
    """Turns genotypes into networks. Small, stateless after construction, and picklable."""

    @property
    def name(self) -> str:
        """The space's short name, e.g. "nb201": part of every arch_id."""

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        """How many alleles each gene has."""

    @property
    def gene_names(self) -> tuple[str, ...]:
        """What each gene decides, e.g. "edge 0->1": for tables and motifs."""

    def allele_names(self, gene: int) -> tuple[str, ...]:
        """The alleles of a gene in words, e.g. ("none", "skip_connect", ...)."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else shapes the network (widths, depths): plain JSON values, hashed into every arch_id."""

    def canonical(self, genotype: Genotype) -> Genotype:
        """One genotype for all encodings of the same network. The identity where a space knows no better."""

    def is_connected(self, genotype: Genotype) -> bool:
        """Whether the genotype is a network at all. Cheap: it is asked before any training."""

    def describe(self, genotype: Genotype) -> str:
        """The string form that people read and the field publishes."""

    def parse(self, text: str) -> Genotype:
        """The genotype of a string form. Raises ArchitectureError saying what is wrong where."""

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """An untrained network for images of shape (channels, height, width).

        Its children are named stages, from the input to the last, "head", that gives logits (n, n_classes): the tail
        from any stage is a slice. No in-place activation, no module used twice, nothing that does not reach the logits.
        Initialisation draws from torch's generator, which the caller has seeded.
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


class Scorer(Protocol):
    """Says how introspectable a trained network is. Picklable.

    A subclass of `nasx.introspection.base.BatchedScorer` is given its images as `nasx.data.batches.Pixels`, indexed
    like a tensor and computed batch by batch; any other scorer is given a tensor that holds all of them.
    """

    @property
    def name(self) -> str:
        """Scorer and variant, e.g. "activations_predicted": the name under which scores are recorded."""

    def score(self, network: nn.Sequential, images: Tensor, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        """The score of a trained network.

        `network` is in evaluation mode and left unchanged, `images` (n, channels, height, width) are float32 and
        normalised, on the network's device; `labels` (n,) are int64 in [0, n_classes). Chooses which and how many it
        uses. The same seed gives the same score; no global generator is touched.
        Raises TrialFailure(Reason.NO_SCORE) where there is none: fewer than two classes, no finite distance.
        """


@runtime_checkable
class ChecksClasses(Protocol):
    """A scorer that depends on which classes the dataset has, e.g. by their similarity. Optional."""

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise DataError if the scorer does not fit the classes of the dataset. Called once, before any training."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a search algorithm is given to solve: no space and no network, just sizes and two questions."""

    gene_sizes: tuple[int, ...]  # alleles of each gene
    n_objectives: int
    seed: int  # from which every draw derives
    key: Callable[[Genotype], Genotype] = _itself  # one genotype for all encodings of a network
    is_connected: Callable[[Genotype], bool] = _always  # whether a genotype is a network at all
    signs: tuple[
        int, ...
    ] = ()  # cost = sign * value of each objective: -1 where it is maximised; (): all are minimised
    workers: int = 1  # trials at a time, at the start of the run: how many questions are open at once
    alleles: tuple[tuple[str, ...], ...] = ()  # names of each gene's alleles; (): they have none
    exact: tuple[bool, ...] = ()  # for each objective, whether it has no noise (parameters); (): all have
    is_noisy: bool = True  # whether a network that is trained again may have other costs; False: never ask it again


class SearchAlgorithm(Protocol):
    """Asks for genotypes and is told what they cost.

    Constructed with its settings and, by the search, with `problem`, a `Problem`.
    The same seed and the same answers give the same questions, in whatever order the answers arrive; or the candidates
    tell what they are bred from and in which order that was heard (`Candidate.heard`), so that a resumed search can
    repeat it. Early stopping needs to know it, too: without it no training is cut.
    """

    def ask(self) -> Candidate | None:
        """The next candidate, numbered 0, 1, 2, ...; None: nothing to ask until more answers are told.

        A candidate whose `replicate` is above 0 asks for one more training of a network that was asked for before:
        1, 2, ... in this order. Never None while every candidate asked has been answered. Endless: the search ends it
        by its budget.
        """

    def tell(self, number: int, costs: Sequence[float] | None) -> None:
        """The answer to candidate `number`: finite costs, smaller is better; None where it failed or is infeasible.

        A candidate without costs never becomes a parent and never enters a front.
        """


@runtime_checkable
class Replayable(Protocol):
    """A search algorithm that takes recorded candidates as its own when a search resumes. Optional."""

    def replay(self, candidate: Candidate) -> None:
        """Take a recorded candidate as the next one asked, in place of `ask`.

        Raises ValueError if it does not follow the one before, or an answer that it was bred from was not told.
        """


class Dataset(Protocol):
    """Reads one published on-disk format. Construction is cheap; `train` and `test` read."""

    @property
    def name(self) -> str:
        """The dataset's one name, e.g. "cifar10": in messages, in exported files, and to find the paper's front.

        As an attribute of the class it is known even if the dataset's files are gone.
        """

    @property
    def augmentation(self) -> Augmentation:
        """What may be done to its training images without changing their class."""

    def train(self) -> LabelledImages:
        """The official training images, from which the search cuts its validation split.

        Raises DataError naming the file, what was expected of it, and what to do.
        """

    def test(self) -> LabelledImages:
        """The official test images. A search never calls this."""


class Execution(Protocol):
    """Takes jobs from a loop, has them evaluated, and gives the answers back."""

    in_process: bool  # whether trials run in this very thread

    @property
    def plan(self) -> WorkerPlan:
        """Trials at a time, which an algorithm's lag and so its result follow, and the resources of each."""

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """Workers for the time of the block. They start in the background, so that the caller may read the data.

        `imports`: modules that evaluations will need. `run` starts workers itself where there are none.
        """

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished.

        `watch` is called in this thread whenever something may have changed. Raises what `watch` and `evaluate` raise:
        what goes wrong with a network is an Evaluation, an exception is the machine's fault.
        """
