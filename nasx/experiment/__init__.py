"""An experiment: what a config names, built once each: components, data, networks, the evaluation of candidates."""

from nasx.experiment.checks import check_gpu_budget, repeatability
from nasx.experiment.corrections import CORRECTIONS_KEY
from nasx.experiment.experiment import Experiment, made_ready, prepare

__all__ = ["CORRECTIONS_KEY", "Experiment", "check_gpu_budget", "made_ready", "prepare", "repeatability"]
