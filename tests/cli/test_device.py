"""Commands after a search use the GPU if there is one, and say so if one is asked for and missing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasx.cli.main import main
from nasx.cli.options import front_trials


class MovedError(Exception):
    """Raised when a network is moved to a GPU: further a machine without one cannot go."""


@pytest.fixture
def commands(run_dir, tmp_path, monkeypatch):
    """Command -> its arguments, on a run or on a model of the user's own."""
    (tmp_path / "own_model.py").write_text("from torch import nn\n\ndef net():\n    return nn.Linear(2, 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    arch_id = front_trials(run_dir)[0].arch_id
    on_run = [f"--arch-id={arch_id}", f"--run-dir={run_dir}"]
    return {
        "explain": ["explain", *on_run, f"--out={tmp_path / 'out'}"],
        "explain image": ["explain", *on_run, "--sample=0", f"--out={tmp_path / 'out'}"],
        "debug": ["debug", *on_run, f"--out={tmp_path / 'out'}"],
        "train": ["train", *on_run, "--device=auto", f"--out={tmp_path / 'out'}", "training.epochs=1"],
        "score": ["score", "own_model:net", "--data=digits"],
    }


COMMANDS = ["explain", "explain image", "debug", "train", "score"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_gpu_is_used_if_there_is_one(commands, command, monkeypatch):
    move = nn.Module.to

    def noted(self, *args, **settings):
        device = torch._C._nn._parse_to(*args, **settings)[0]
        if device is not None and device.type == "cuda":
            raise MovedError
        return move(self, *args, **settings)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nn.Module, "to", noted)
    # what `auto` means for numbers is asked before a network is moved
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)

    with pytest.raises(MovedError):
        main(commands[command])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_gpu_that_is_missing_is_named(commands, command, capsys):
    assert main([*commands[command], "--device=cuda"]) == 2

    setting = "execution.device" if command == "train" else "--device"
    assert f"{setting} is cuda, but torch sees no GPU: set {setting} to cpu or auto." in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("command", ["explain", "score"])
def test_lack_of_memory_is_one_line(commands, command, monkeypatch, capsys):
    def full(self, *args, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(nn.Module, "to", full)

    assert main(commands[command]) == 2

    assert capsys.readouterr().err.splitlines()[-1] == (
        "nasx: out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): use fewer or smaller images, a smaller "
        "batch, or --device cpu."
    )
