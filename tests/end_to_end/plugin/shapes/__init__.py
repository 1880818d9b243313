"""Example of user components: dataset, space, scorer and algorithm, each named by `_target_` in YAML."""

from shapes.algorithm import Sweep
from shapes.dataset import Shapes
from shapes.scorer import HeadCentroids
from shapes.space import Towers

__all__ = ["HeadCentroids", "Shapes", "Sweep", "Towers"]
