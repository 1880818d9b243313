"""An experiment, assembled from its config: components, data, networks, and the evaluation of candidates."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from nasx import places
from nasx.config.components import build
from nasx.config.schema import ExperimentConfig, read_config
from nasx.errors import ConfigError, DataError, SettingError
from nasx.execution.imports import gc_paused
from nasx.experiment.backbone import backbone_content, with_features
from nasx.experiment.checks import check_gpu_budget, check_scorers
from nasx.experiment.content import describe_files, known_of_older, place_of
from nasx.experiment.corrections import CORRECTIONS_KEY, report_edit
from nasx.protocols import (
    AcceptsInitial,
    ChecksClasses,
    Dataset,
    Execution,
    HasBackbone,
    HasPlaces,
    Problem,
    ReportsNoise,
    Scorer,
    SearchAlgorithm,
    SearchSpace,
)
from nasx.runs.check import genotype_problem
from nasx.runs.directory import CORRECTIONS_COPY, file_in
from nasx.runs.rows import DataRecord
from nasx.runs.stored_run import (
    DEFAULT,
    FILE,
    PLACES,
    ReadOptions,
    StoredRun,
    open_run,
    require_data,
    version_notice,
)
from nasx.trial import OBJECTIVES, Evaluator, Genotype, Objective, derive_seed

if TYPE_CHECKING:
    from torch import nn

    from nasx.backbones.features import BackboneFeatures
    from nasx.data.corrected import Applied
    from nasx.data.corrections import Corrections
    from nasx.data.dataset import LabeledImages, SearchData
    from nasx.data.digest import Content
    from nasx.evaluation.tabular import TabularEvaluation
    from nasx.evaluation.train_and_score import EvaluationSpec
    from nasx.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class _Images:
    """Images of an experiment, as read."""

    data: SearchData
    content: Mapping[str, Content]  # by part
    applied: Applied | None  # corrections; None: there are none


@dataclass(frozen=True, eq=False)
class Experiment:
    """An experiment, assembled from its config. Each part is built when it is first used, and only once."""

    config: ExperimentConfig
    held_out: Literal["validation", "calibration"] = "validation"  # use of the images that are not trained on
    recorded: Mapping[str, DataRecord] = field(default_factory=dict)  # content of the run's data; empty: a new run
    options: ReadOptions = DEFAULT  # how the data of a run are read again
    corrections_copy: Path | None = None  # the run's own copy of its corrections; None: read the file of the config

    def __repr__(self) -> str:
        return f"<nasx experiment {self.config.name}, seed {self.config.seed}>"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], options: ReadOptions = DEFAULT) -> Experiment:
        """Return the experiment of a composed config. Raises ConfigError naming the key that is wrong."""
        return cls(read_config(config), options=options)

    @classmethod
    def of_run(cls, run_dir: Path, options: ReadOptions = DEFAULT) -> Experiment:
        """Return the experiment of a run, to look at its networks.

        Raises RunError or ConfigError if the run is damaged or edited, or names code of unknown origin.
        """
        with open_run(run_dir, options.overrides, trust_code=options.trust_code, notify=options.notify) as run:
            if notice := version_notice(run, version("torch"), platform.python_version()):
                options.notify(notice)
            return cls.of_stored(run, options)

    @classmethod
    def of_stored(cls, run: StoredRun, options: ReadOptions) -> Experiment:
        """Return the experiment of an open run. Raises RunError if its journal does not describe its data."""
        assert run.is_checked  # otherwise a run of unknown origin could execute its own code
        require_data(run)
        config = read_config(run.config)
        copy = None
        if config.dataset.get("corrections") is not None and not {"dataset", CORRECTIONS_KEY} & set(run.named):
            copy = file_in(run.run_dir, CORRECTIONS_COPY)
        recorded = run.data or known_of_older(run.info)
        return cls(config, recorded=recorded, options=options, corrections_copy=copy)

    # --- components

    @cached_property
    def space(self) -> SearchSpace:
        space: SearchSpace = self._build(self.config.space, "space")
        return space

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(OBJECTIVES[name] for name in self.config.objectives)

    @cached_property
    def dataset(self) -> Dataset:
        dataset: Dataset = build(self.config.dataset, "dataset")
        return dataset

    @cached_property
    def recipe(self) -> Recipe:
        recipe: Recipe = self._build(self.config.training, "training")
        return recipe

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer whose value is the metric introspectability."""
        scorer: Scorer = self._build(self.config.scorer, "scorer")
        return scorer

    @cached_property
    def also_scored(self) -> tuple[Scorer, ...]:
        """Further scorers, whose values are recorded."""
        return tuple(self._build(node, f"also_scored.{name}") for name, node in self.config.also_scored.items())

    @cached_property
    def table(self) -> TabularEvaluation | None:
        """The table in which candidates are looked up; None: they are trained."""
        return None if self.config.evaluation is None else build(self.config.evaluation, "evaluation")

    @cached_property
    def execution(self) -> Execution:
        """The execution of the trials. Trials that are looked up in a table need no GPU."""
        node = self.config.execution
        if self.config.evaluation is not None:
            on_cpu = {"device": "cpu", "gpus_per_trial": None, "mps": False}
            node = {**node, **{key: value for key, value in on_cpu.items() if key in node}}
        places.prepare()  # Ray looks for a home directory when it is imported
        execution: Execution = build(node, "execution")
        return execution

    def algorithm(self, workers: int) -> SearchAlgorithm:
        """Return a new algorithm. `workers`: trials at a time at the start of the run."""
        problem = Problem(
            gene_sizes=self.space.gene_sizes,
            n_objectives=len(self.objectives),
            seed=derive_seed(self.config.seed, "algorithm"),
            key=self.space.canonical,
            is_connected=self.space.is_connected,
            signs=tuple(objective.sign for objective in self.objectives),
            workers=workers,
            alleles=self.allele_names,
            exact=tuple(objective.is_exact for objective in self.objectives),
            is_noisy=self.evaluate.is_noisy if isinstance(self.evaluate, ReportsNoise) else True,
            initial=self._initial,
        )
        algorithm: SearchAlgorithm = build(self.config.algorithm, "algorithm", problem=problem)
        if self._initial and not isinstance(algorithm, AcceptsInitial):
            raise ConfigError(
                f"warm_start: {type(algorithm).__name__} has no attribute `initial`, so it cannot begin with given "
                "networks. Choose another algorithm, or see nasx.protocols.AcceptsInitial."
            )
        return algorithm

    @property
    def _initial(self) -> tuple[Genotype, ...]:
        """The networks with which the search begins. Raises ConfigError if one is none of the space."""
        initial = () if self.config.warm_start is None else self.config.warm_start.genotypes
        for genotype in initial:
            if problem := genotype_problem(self.space, genotype):
                raise ConfigError(f"warm_start.genotypes: {list(genotype)} is no network of this space: {problem}.")
        return initial

    def _build(self, node: Mapping[str, Any], key: str) -> Any:
        """Build a component after comparing the files that it reads with those of the run."""
        if self.recorded:
            files = describe_files(node, key)
            self._compare(files)
            gone = [part for part in self.recorded if part.startswith(f"{FILE}{key}.") and part not in files]
            self._report(f"the {gone[0]} is gone" if gone else "")
        return build(node, key)

    @property
    def allele_names(self) -> tuple[tuple[str, ...], ...]:
        """Names of each gene's alleles."""
        return tuple(self.space.allele_names(gene) for gene in range(len(self.space.gene_sizes)))

    # --- data

    @cached_property
    def data(self) -> SearchData:
        """The training images, and those held out; the same ones in every process. Raises DataError, SettingError."""
        return self._images.data

    @cached_property
    def _images(self) -> _Images:
        """Read the images, compare them with those of the run, and cut the held-out images from them.

        The cut is that of the uncorrected images: corrections move no image between training and validation.
        """
        from nasx.data.corrected import require_classes  # scikit-learn takes half a second to load
        from nasx.data.digest import SPLIT, describe_images, describe_split
        from nasx.data.splits import cut, split_indices

        images = self.dataset.train()
        content = describe_images(images)
        if isinstance(self.space, HasBackbone):
            content |= backbone_content(self.space)
        self._compare(content)  # before corrections and split, which may fail for other data
        applied = self._apply(images)
        content |= self._corrections_content(applied)
        parts = split_indices(images, **vars(self.config.split), seed=self._split_seed)
        if self.held_out == "validation":
            content[SPLIT] = describe_split(*parts)
            self._compare({SPLIT: content[SPLIT]})
        if applied is None:
            return _Images(self._with_features(cut(images, *parts)), content, None)
        for part, name in zip(parts, ("training", self.held_out), strict=True):
            require_classes(applied, part, name)
        kept = [applied.kept(part) for part in parts]
        return _Images(self._with_features(cut(applied.relabeled, *kept)), content, applied)

    # --- backbone

    def _with_features(self, data: SearchData) -> SearchData:
        """Return the data with a source of features, if the space has a backbone."""
        if not isinstance(self.space, HasBackbone):
            return data
        return with_features(
            data,
            self.space,
            dataset=self.dataset.name,
            cache=self.config.dataset.get("cache"),
            device=str(self.config.execution.get("device", "auto")),
            options=self.options,
        )

    def compute_features(self, cuts: Sequence[str] | None = None) -> None:
        """Compute the features on which networks are trained, in one pass, if the space has a backbone.

        Args:
            cuts: stages that end the frozen part of these networks; None: those of all networks of the space.

        Raises:
            SettingError: if the backbone cannot be used for these images.
            ResourceError: if there is no room for the features.
        """
        self.check_backbone()
        if not isinstance(self.space, HasBackbone):
            return
        data, cuts = self.data, self.frozen_cuts if cuts is None else cuts
        self.features.prepare(data.train, cuts, views=self.recipe.views, augmentation=self.dataset.augmentation)
        self.features.prepare(data.validation, cuts)

    @property
    def features(self) -> BackboneFeatures:
        """Source of the features; only for a space with a backbone."""
        from nasx.backbones.features import BackboneFeatures  # torch takes seconds to load

        assert isinstance(self.data.features, BackboneFeatures)
        return self.data.features

    @property
    def frozen_cuts(self) -> tuple[str, ...]:
        """Names of the stages whose feature maps are trained on; only for a space with a backbone."""
        from nasx.networks.backbone import frozen_cuts  # torch takes seconds to load

        assert isinstance(self.space, HasBackbone)
        return frozen_cuts(self.space.pretrained().stage_names, self.space.cuts, self.recipe.unfreeze)

    def check_backbone(self) -> None:
        """Raise SettingError if a cut is none of the backbone, or the images are too small for it.

        Without a backbone: if stages of it are to be trained.
        """
        if not isinstance(self.space, HasBackbone):
            if n_stages := self.recipe.unfreeze:
                raise SettingError("training.unfreeze", f"needs a space with a backbone, got {n_stages}; set it to 0")
            return
        genes = [0] * len(self.space.gene_sizes)
        for cut in range(self.space.gene_sizes[0]):
            self.untrained((cut, *genes[1:]), seed=0)

    # --- corrections

    @cached_property
    def corrections(self) -> Corrections | None:
        """The corrections of the labels, as read; None: there are none. Those of a run are read from its own copy."""
        from nasx.data.corrected import configured_corrections  # numpy takes time to load
        from nasx.data.corrections import read_corrections

        if self.corrections_copy is not None and self.corrections_copy.exists():
            return replace(read_corrections(self.corrections_copy), file=str(self.config.dataset["corrections"]))
        return configured_corrections(self.config.dataset)

    @property
    def reviewed(self) -> frozenset[int]:
        """Positions of the images whose label a person has confirmed or changed. Reads the training images."""
        applied = None if self.table is not None else self._images.applied
        if applied is None:
            return frozenset()
        return frozenset(applied.original.positions[applied.is_confirmed | applied.is_relabeled].tolist())

    def _apply(self, images: LabeledImages) -> Applied | None:
        """Return the training images with corrections; None: there are none."""
        from nasx.data.corrected import apply  # numpy takes time to load

        return None if self.corrections is None else apply(self.corrections, self.dataset, images)

    def _corrections_content(self, applied: Applied | None) -> dict[str, Content]:
        """Compare the corrections with those of the run, and return their content; none if there are none."""
        from nasx.data.corrected import NO_CORRECTIONS  # numpy takes time to load
        from nasx.data.digest import CORRECTIONS, Content, find_difference

        now = NO_CORRECTIONS if applied is None else applied.content
        if self.recorded:
            record = self.recorded.get(CORRECTIONS)
            before = NO_CORRECTIONS if record is None else Content(record.digest, record.facts)
            self._report(find_difference({CORRECTIONS: before}, {CORRECTIONS: now}))
            if applied is not None and self.corrections_copy is not None:
                report_edit(self.config.dataset, self.corrections_copy, self.dataset, applied, self.options)
        return {} if applied is None else {CORRECTIONS: now}

    @property
    def corrections_in_words(self) -> str:
        """How many corrections are in use, e.g. "31 labels changed, 4 images dropped, ..."; "": none are configured.

        Reads the training images.
        """
        from nasx.data.corrections import in_words  # numpy takes time to load

        if self.table is not None or self._images.applied is None:
            return ""
        return in_words(self._images.applied.content.facts)

    def test_images(self) -> tuple[LabeledImages, dict[str, Content]]:
        """Return the test images with corrections, and their content. A search never calls this method."""
        from nasx.data.corrected import NO_CORRECTIONS, apply, require_found  # numpy takes time to load
        from nasx.data.digest import CORRECTIONS, describe_images

        images = self.dataset.test()
        content = describe_images(images)
        if self.corrections is None or self._images.applied is None:
            return images, content
        applied = apply(self.corrections, self.dataset, images, test=True)
        require_found(self.corrections, self.dataset, self._images.applied, applied)
        if applied.content.digest != NO_CORRECTIONS.digest:
            content[CORRECTIONS] = applied.content
        return applied.images, content

    @property
    def image_content(self) -> Mapping[str, Content]:
        """The content of the images, by part."""
        return self._images.content

    def _compare(self, content: Mapping[str, Content]) -> None:
        """Raise DataError if data differ from those of the run; with `other_data`, say so."""
        from nasx.data.digest import Content, find_difference  # numpy takes time to load

        before = {part: Content(record.digest, record.facts) for part, record in self.recorded.items()}
        self._report(find_difference(before, content))

    def _report(self, difference: str) -> None:
        if not difference:
            return
        if not self.options.other_data:
            place = place_of(difference)
            raise DataError(
                f"the data are not those of the run: {difference}. Name the place of the run's data, as in "
                f"{place}, restore them, or start a new run."
            )
        self._differences.append(difference)
        self.options.notify(f"other data than those of the run: {difference}.")

    @cached_property
    def _differences(self) -> list[str]:
        return []

    @property
    def data_difference(self) -> str:
        """How the data read so far differ from those of the run, in words; "": they are the same."""
        return "; ".join(dict.fromkeys(self._differences))

    @property
    def content(self) -> list[DataRecord]:
        """The content of all data that a search reads, for its journal. Reads them."""
        config = self.config
        nodes = {"space": config.space, "algorithm": config.algorithm}
        if self.table is None:
            nodes |= {"training": config.training, "scorer": config.scorer}
            nodes |= {f"also_scored.{name}": node for name, node in config.also_scored.items()}
        found: dict[str, Content] = {}
        for key, node in nodes.items():
            found |= describe_files(node, key)
        found |= {"table": cast(Any, self.evaluate).content()} if self.table is not None else self._images.content
        records = [DataRecord(part, each.digest, each.facts) for part, each in found.items()]
        return [*records, self._places([part.removeprefix(FILE) for part in found if part.startswith(FILE)])]

    def _places(self, files: Sequence[str]) -> DataRecord:
        """Return the keys of the settings that only name places of data, as a part of the content."""
        owner, group = (self.dataset, "dataset") if self.table is None else (self.table, "evaluation")
        own = [f"{group}.{name}" for name in (owner.places if isinstance(owner, HasPlaces) else ())]
        if self.table is None and self.corrections is not None:
            own.append(CORRECTIONS_KEY)
        return DataRecord(PLACES, "", {"keys": [*own, *files]})

    @property
    def n_classes(self) -> int:
        return self.data.n_classes if self.table is None else self.table.n_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if candidates are looked up in a table."""
        return self.data.train.class_names if self.table is None else ()

    @property
    def _split_seed(self) -> int:
        return derive_seed(self.config.seed, "split" if self.held_out == "validation" else self.held_out)

    # --- evaluation

    @property
    def score_seed(self) -> int:
        """Seed of every score of a run: the same images and the same draws for each network."""
        return derive_seed(self.config.seed, "score")

    @cached_property
    def spec(self) -> EvaluationSpec:
        """How a network is trained and scored."""
        from nasx.evaluation.train_and_score import EvaluationSpec  # torch takes seconds to load

        return EvaluationSpec(
            space=self.space,
            recipe=self.recipe,
            augmentation=self.dataset.augmentation,
            scorer=self.scorer,
            also_scored=self.also_scored,
            constraints=self.config.constraints,
            score_seed=self.score_seed,
        )

    @property
    def measures_latency(self) -> bool:
        """Whether the latency of each network is measured: it is an objective or has bounds."""
        return self.table is None and "latency" in (*self.config.objectives, *self.config.constraints)

    @cached_property
    def evaluate(self) -> Evaluator:
        """The function that evaluates a job: by training, or by looking it up in a table.

        Reads the training images or the table. Raises ConfigError, DataError, SettingError or ResourceError.
        """
        if self.table is not None:
            answers = self.table.read(self.space, self.config.objectives, self.config.constraints)
            if self.recorded:
                self._compare({"table": answers.content()})
            return answers
        from nasx.evaluation.train_and_score import evaluate  # torch takes seconds to load

        scorers = {"scorer": self.scorer}
        scorers |= {f"also_scored.{n}": s for n, s in zip(self.config.also_scored, self.also_scored, strict=True)}
        for scorer in scorers.values():
            # scorers receive labels only: class names of a user's similarities can be checked only here
            if isinstance(scorer, ChecksClasses):
                scorer.check_classes(self.data.train.class_names)
        check_scorers(scorers, self.space, self.data.shape, partial(self.untrained, seed=0))
        self.check_backbone()
        plan = self.execution.plan
        spec = replace(
            self.spec,
            device=plan.device,
            gpu_share=min(plan.gpus, 1.0) or 1.0,
            time_limit=self.config.search.time_limit,
            stall_limit=self.config.search.stall_limit,
            in_process=self.execution.in_process,
            threads=plan.cpus,
            latency=self.measures_latency,
        )
        return partial(evaluate, spec=spec, data=self.data)

    # --- networks

    def untrained(self, genotype: Genotype, seed: int) -> nn.Sequential:
        """Return a network with its initial weights, on the CPU."""
        from nasx.networks.untrained import build_untrained  # torch takes seconds to load

        shape, n_classes = self.data.shape, self.data.n_classes
        unfrozen = self.recipe.unfreeze
        return build_untrained(
            self.space, genotype, input_shape=shape, n_classes=n_classes, seed=seed, n_unfrozen=unfrozen
        )


def prepare(
    config: Mapping[str, Any],
    workers: ExitStack | None = None,
    options: ReadOptions = DEFAULT,
    *,
    compute_features: bool = True,
) -> Experiment:
    """Build every component that a composed config names, and read and split the data, so that a search can start.

    Args:
        config: as `nasx.config.compose.compose` returns it.
        workers: if given, the workers of the execution start meanwhile, and end with this stack.
        options: receives notices, and the progress of the features that a backbone computes.
        compute_features: compute them; otherwise the first training does.

    Raises ConfigError, DataError or ResourceError naming what is wrong. Reads only the training images.
    """
    return made_ready(Experiment.from_config(config, options), workers, compute_features=compute_features)


def made_ready(
    experiment: Experiment, workers: ExitStack | None = None, *, compute_features: bool = True
) -> Experiment:
    """Return an experiment after building its components and reading its data, as `prepare`."""
    check_gpu_budget(experiment)
    _build_parts(experiment, workers)
    if compute_features and experiment.table is None:
        # not in `gc_paused`: imports of torch leave cycles that refer to these frames; frozen, they would keep the
        # images in memory and the features in use until this process ends
        experiment.compute_features()
    return experiment


@gc_paused()  # most of the time goes into imports
def _build_parts(experiment: Experiment, workers: ExitStack | None) -> None:
    """Build the components and read the data, while the workers start."""
    if workers is not None:  # before torch is imported: both take seconds
        trains = experiment.config.evaluation is None
        imports = ["nasx.evaluation.train_and_score", "nasx.training.fit"] if trains else []
        workers.enter_context(experiment.execution.started(imports))
    _ = experiment.evaluate
