"""Parts of benchmarks with results worked out by hand: rooflines, growth of memory, facts of a machine."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("psutil", reason="the extra bench is not installed")

from scripts.bench import machine
from scripts.bench.memory import Sample, by_process, growth
from scripts.bench.roofline import Counter, Limits, Work, training_step

LIMITS = Limits({torch.float32: 1e9, torch.bfloat16: 4e9}, bandwidth=1e9)


def counted(work) -> Work:
    counter = Counter(LIMITS)
    with counter:
        work()
    return counter.work


def test_a_matrix_product_takes_its_flops_and_reads_and_writes_three_matrices():
    a, b = torch.zeros(10, 20), torch.zeros(20, 30)
    found = counted(lambda: a @ b)
    assert (found.flops, found.bytes) == (2 * 10 * 20 * 30, 4 * (10 * 20 + 20 * 30 + 10 * 30))
    assert found.seconds == pytest.approx(12_000 / 1e9)  # longer than the transfer of 4,400 bytes


def test_the_rate_is_that_of_the_data_type():
    a = torch.zeros(100, 100, dtype=torch.bfloat16)
    assert counted(lambda: a @ a).seconds == pytest.approx(2e6 / 4e9)


def test_an_operation_without_flops_takes_the_time_of_its_bytes_and_a_view_takes_none():
    a = torch.zeros(1000)
    assert counted(lambda: a + a).seconds == pytest.approx(3 * 4000 / 1e9)  # the operand counts twice
    assert counted(lambda: a.view(10, 100).t()) == Work()


def test_a_training_step_multiplies_each_weight_three_times():
    """Forward, gradient of the weight, gradient of the input; the first layer's input needs no gradient."""
    network = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(4, 3, bias=False))
    work = training_step(network, torch.zeros(5, 8), torch.zeros(5, dtype=torch.long), bfloat16=False, limits=LIMITS)
    assert work.flops == 2 * 5 * (2 * 8 * 4 + 3 * 4 * 3)


def test_growth_is_the_slope_of_the_second_half():
    start = [Sample(n, "worker", 7, 100.0 + n) for n in range(50)]  # libraries and data are loaded
    steady = [Sample(n, "worker", 7, 150.0 + 0.02 * n) for n in range(50, 101)]
    assert growth(start + steady) == pytest.approx(20.0)
    assert growth([Sample(3, "driver", 1, 80.0)] * 4) == 0.0


def test_workers_that_were_replaced_early_do_not_count():
    lasting = [Sample(n, "worker", 1, 100.0) for n in range(10)]
    short = [Sample(n, "worker", 2, 100.0) for n in range(3)]
    driver = [Sample(n, "driver", 3, 100.0) for n in range(10)]
    assert by_process(lasting + short + driver, "worker") == [lasting]


def test_the_processor_is_read_from_linux(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nprocessor\t: 1\n")
    assert machine.processor(file) == ("Some CPU", frozenset({"fpu", "avx512_bf16", "amx_bf16"}))
    assert machine.processor(tmp_path / "none")[1] == frozenset()
