"""Cost of the surrogate, compared with libraries: fit a Gaussian process to noisy results, predict 16 new networks.

    python -m scripts.bench.surrogate [--networks 64 256] [--repeats 5]

All models get the same data: networks with NAS-Bench-201's genes, whose objective is a smooth function plus an
independent effect and noise; a third of them are trained three times. nasx chooses length scale, own share and noise
share on its grids. scikit-learn's `GaussianProcessRegressor` evaluates as many hyperparameters, with its optimizer off,
on the means of the trainings with their noise as `alpha`; its likelihood ignores the variance within networks.
BoTorch's `SingleTaskGP` optimizes its hyperparameters by gradients (skipped if it is not installed:
`pip install botorch`). Each runs on one thread; reported is the median CPU time of one objective in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from nasx.algorithms.gaussian_process import LENGTH_SCALES, OWN_SHARES, Features, Measurements, fit

GENES, ALLELES = 6, 5
NEW = 16  # networks predicted
TRIED = 20  # hyperparameters for scikit-learn's model: about as many as nasx tries

Floats = NDArray[np.float64]


def data(networks: int, seed: int = 0) -> tuple[Floats, Measurements, Floats]:
    """Return (features, measurements, features of the new networks)."""
    rng = np.random.default_rng(seed)
    features = Features.of_sizes((ALLELES,) * GENES)
    rows = features(rng.integers(ALLELES, size=(networks + NEW, GENES)).tolist())
    truth = np.sin(rows @ rng.normal(size=rows.shape[1])) + 0.3 * rng.normal(size=len(rows))
    counts = np.where(np.arange(networks) % 3 == 0, 3, 1)
    answers = [t + 0.5 * rng.normal(size=n) for t, n in zip(truth, counts, strict=False)]
    means = np.array([own.mean() for own in answers])
    within = sum(float(((own - own.mean()) ** 2).sum()) for own in answers)
    return rows[:networks], Measurements(counts, means, within), rows[networks:]


def ours(rows: Floats, measured: Measurements, new: Floats) -> object:
    return fit(rows, measured).predict(new)


def scikit_learn(rows: Floats, measured: Measurements, new: Floats) -> object:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    settings = list(product(LENGTH_SCALES, OWN_SHARES))[:TRIED]
    models = [
        GaussianProcessRegressor(
            Matern(length, nu=2.5) + WhiteKernel(own), alpha=0.25 / measured.counts, optimizer=None, normalize_y=True
        ).fit(rows, measured.means)
        for length, own in settings
    ]
    best = max(models, key=lambda model: float(model.log_marginal_likelihood_value_))
    return best.predict(new, return_std=True)


def botorch(rows: Floats, measured: Measurements, new: Floats) -> object:
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    x, y = torch.from_numpy(rows), torch.from_numpy(measured.means)[:, None]
    model = SingleTaskGP(x, y)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    with torch.no_grad():
        posterior = model.posterior(torch.from_numpy(new))
        return posterior.mean, posterior.variance


def milliseconds(function: Callable[[Floats, Measurements, Floats], object], networks: int, repeats: int) -> float:
    """Return the median CPU time of a call; the first call, with its imports, does not count."""
    function(*data(networks))
    times = []
    for seed in range(repeats):
        given = data(networks, seed)
        started = time.process_time()
        with threadpool_limits(1):
            function(*given)
        times.append(1000 * (time.process_time() - started))
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.surrogate")
    parser.add_argument("--networks", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    makers = {"nasx": ours, "scikit-learn": scikit_learn}
    if find_spec("botorch"):
        makers["BoTorch"] = botorch
    table = Table(title="fit and predict, one objective, CPU ms")
    table.add_column("model")
    for networks in chosen.networks:
        table.add_column(f"{networks} networks", justify="right")
    for name, function in makers.items():
        table.add_row(name, *(f"{milliseconds(function, n, chosen.repeats):.1f}" for n in chosen.networks))
    Console().print(table)


if __name__ == "__main__":
    main()
