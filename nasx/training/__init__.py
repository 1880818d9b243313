"""Training of networks: `recipe` says how, `fitting` does it; `classifier` is what Lightning trains."""

from nasx.training.recipe import Recipe

__all__ = ["Recipe"]
