"""Observe the layers inside a network without changing it.

The layers of interest are those of the paper: the output of every convolution (before batch norm) and of every
activation. A pretrained backbone counts as one layer, its output: the layers inside it are the same in every network.
They are recognized by the torch function that computes them, called by a module or directly, and named
after the module in which it is called. This works for any network, because nothing is traced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nasx.networks.backbone import Backbone

CONVOLUTIONS: Final = frozenset(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3))
_ACTIVATIONS = """celu elu gelu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 rrelu selu
    sigmoid silu softplus softsign tanh"""
ACTIVATIONS: Final = frozenset(_ACTIVATIONS.split())
PROBING_IMAGES: Final = 16  # enough to find the live layers


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set `network` to evaluation mode without gradients of parameters, and a GPU to deterministic float32, in a block.

    TF32, cuDNN's default for convolutions, has 10 bits of mantissa: logits differ from a CPU's by 4e-4. cuDNN's default
    algorithms for gradients may sum in another order each time.
    """
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.eval()
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    cudnn: Any = torch.backends.cudnn
    before, precision = (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark), torch.get_float32_matmul_precision()
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.set_float32_matmul_precision(precision)
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def observe_layers(network: nn.Module, callback: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `callback(name, output)` for each layer of interest, in order, during one forward pass in the block.

    The name is that of the module, e.g. "stage1.0.conv". The name of the function is appended if the module is not one
    of torch ("layer1.0.relu"), and "#2", "#3", ... if the layer runs more than once in the pass.
    """
    running: list[tuple[str, nn.Module]] = []
    with ExitStack() as stack:
        for name, module in network.named_modules():
            enter = module.register_forward_pre_hook(_push(running, name))
            leave = module.register_forward_hook(_pop(running), always_call=True)
            if isinstance(module, Backbone):
                report = module.register_forward_hook(_reporter(name, callback))
                stack.callback(report.remove)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        stack.enter_context(_LayerObserver(running, callback))
        yield


def live_layers(network: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the layers of interest whose output reaches the logits, in the order in which they run.

    A layer is dead if its output has no effect on any logit: its gradient is zero for all `images`, (n, channels,
    height, width); a few images suffice. Dead layers are not part of the network.
    """
    outputs: dict[str, Tensor] = {}
    with evaluation_mode(network), torch.enable_grad(), observe_layers(network, outputs.__setitem__):
        logits = network(images.detach().clone().requires_grad_())
    # a different weight for each logit: softmax outputs sum to one, so their plain sum has no gradient
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device, dtype=logits.dtype)
    inner = {name: output for name, output in outputs.items() if output.requires_grad and len(output) == len(images)}
    if not inner:
        return []
    gradients = torch.autograd.grad((logits @ weights).sum(), list(inner.values()), allow_unused=True)
    return [name for name, g in zip(inner, gradients, strict=True) if g is not None and bool(g.any())]


class _LayerObserver(TorchFunctionMode):
    """Calls back for each torch function that is called from Python; functions called inside it are not observed."""

    def __init__(self, running: list[tuple[str, nn.Module]], callback: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.running = running
        self.callback = callback
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        function = getattr(func, "__name__", "").rstrip("_")  # relu_ is relu in place
        if self.running and function in CONVOLUTIONS | ACTIVATIONS and not self._is_in_backbone():
            name = self._name(function)
            self.calls[name] += 1
            self.callback(name if self.calls[name] == 1 else f"{name}#{self.calls[name]}", output)
        return output

    def _is_in_backbone(self) -> bool:
        return any(isinstance(module, Backbone) for _, module in self.running)

    def _name(self, function: str) -> str:
        name, module = self.running[-1]
        is_own = type(module).__module__.startswith("torch.nn.modules")
        return name if is_own and name else ".".join(filter(None, (name, function)))


def _reporter(name: str, callback: Callable[[str, Tensor], None]) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda module, arguments, output: callback(name, output)


def _push(running: list[tuple[str, nn.Module]], name: str) -> Callable[[nn.Module, Any], None]:
    return lambda module, _: running.append((name, module))


def _pop(running: list[tuple[str, nn.Module]]) -> Callable[[nn.Module, Any, Any], None]:
    return lambda *_: (running.pop(), None)[1]
