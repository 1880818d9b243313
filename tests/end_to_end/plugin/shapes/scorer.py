"""Distances between the class means before the head."""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor, nn

from nasx.trial import Score


class HeadCentroids:
    """Mean cosine distance between the mean channels of the classes after the stage before the head."""

    name = "head_centroids"

    def score(self, network: nn.Sequential, images: Tensor, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        """Return the score of a network."""
        started = time.perf_counter()
        with torch.no_grad():
            features = network[:-1](images).mean(dim=(2, 3))
        means = [features[labels == c].mean(dim=0).cpu().numpy() for c in range(n_classes)]
        distances = squareform(pdist(np.stack(means), "cosine"))
        value = float(distances[np.triu_indices(n_classes, k=1)].mean())
        return Score(self.name, value, {"last": value}, distances, len(images), time.perf_counter() - started)
