"""What a user can add to nasx: a dataset, a space, a scorer and an algorithm, each named by `_target_` in YAML."""

from shapes.algorithm import Sweep
from shapes.dataset import Shapes
from shapes.scorer import HeadCentroids
from shapes.space import Towers

__all__ = ["HeadCentroids", "Shapes", "Sweep", "Towers"]
