"""Small network with fixed weights, and data for it."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from nasx.data.dataset import LabeledImages, SearchData

N_CLASSES = 3


def make_images(n, rng):
    """Return images with a bright row that depends on the class."""
    labels = np.arange(n) % N_CLASSES
    pixels = rng.integers(0, 80, (n, 1, 8, 8))
    pixels[np.arange(n), 0, 2 * labels] += 150
    return LabeledImages(pixels.astype(np.uint8), labels.astype(np.int64), ("top", "middle", "bottom"))


def make_data(n_train=60, n_validation=45):
    rng = np.random.default_rng(0)
    return SearchData(make_images(n_train, rng), make_images(n_validation, rng), np.float32([0.3]), np.float32([0.2]))


def make_network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = OrderedDict(
            stem=nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)),
            stage1=nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)),
            head=nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, N_CLASSES)),
        )
        return nn.Sequential(stages).eval()


def pixels_of(images, data):
    return (torch.from_numpy(images.images).float() / 255 - data.mean.item()) / data.std.item()
