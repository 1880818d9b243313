"""Facts about the images of an experiment that a user should know before a search, one line each."""

from __future__ import annotations

from nasx.data.decoding import RESAMPLING
from nasx.data.folder import ImageFolder
from nasx.data.survey import survey_folder
from nasx.experiment import Experiment
from nasx.extras import install_command
from nasx.planning.rules import ENLARGEMENT
from nasx.protocols import HasBackbone, HasNotices


def notices(experiment: Experiment) -> list[str]:
    """Return what the dataset reports, and how its images differ from those of the backbone's pretraining."""
    if experiment.table is not None:
        return []
    lines = list(experiment.dataset.notices()) if isinstance(experiment.dataset, HasNotices) else []
    about = (_gray(experiment), _interpolation(experiment), _enlarged(experiment), _slow_features(experiment))
    return [*lines, *filter(None, about)]


def _gray(experiment: Experiment) -> str:
    if not isinstance(experiment.space, HasBackbone) or experiment.data.shape[0] != 1:
        return ""
    pretrained = experiment.space.pretrained()
    return (
        f"Gray pictures: the backbone {pretrained.name} was pretrained on color pictures ({pretrained.data}); the gray "
        "values are used for all three colors."
    )


def _interpolation(experiment: Experiment) -> str:
    """Return a line if pictures are resized in another way than those of the pretraining."""
    used = getattr(experiment.dataset, "interpolation", None)
    if not isinstance(experiment.space, HasBackbone) or used not in RESAMPLING:
        return ""
    pretrained = experiment.space.pretrained()
    expected = pretrained.preprocessing.interpolation
    if used == expected:
        return ""
    return (
        f"Interpolation: pictures are resized by {used}, those of the pretraining of {pretrained.name} by {expected} "
        f"(dataset.interpolation={expected})."
    )


def _enlarged(experiment: Experiment) -> str:
    """Return a line if most pictures are enlarged for a backbone."""
    dataset = experiment.dataset
    if not isinstance(experiment.space, HasBackbone) or not isinstance(dataset, ImageFolder):
        return ""
    survey = survey_folder(dataset)
    if not 0 < survey.side < dataset.image_size / ENLARGEMENT:
        return ""
    return (
        f"Enlarged: the median picture is {survey.width} x {survey.height}, and pictures are read at "
        f"{dataset.image_size} x {dataset.image_size}, which adds no detail."
    )


def _slow_features(experiment: Experiment) -> str:
    """Return a line if a package would make the features of a backbone faster."""
    if not isinstance(experiment.space, HasBackbone):
        return ""
    from nasx.backbones.onnx_stages import gains_from_onnx, is_installed  # torch takes seconds to load

    if is_installed() or not gains_from_onnx(experiment.space.pretrained(), experiment.features.device):
        return ""
    return f"Features: about four times as fast on CPUs after {install_command('onnx')}."
