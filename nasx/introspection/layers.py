"""Watching what runs inside a network, without leaving a trace on it.

The layers of interest are those of the paper: every convolution's output (before batch norm) and every activation's.
They are recognised by the torch function that computes them, whether a module or a plain function calls it, and named
after the module in which it is called. So nothing about a network need be known, and no tracing can fail on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CONVOLUTIONS: Final = frozenset(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3))
_ACTIVATIONS = """celu elu gelu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 rrelu selu
    sigmoid silu softplus softsign tanh"""
ACTIVATIONS: Final = frozenset(_ACTIVATIONS.split())


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """In the block `network` is in evaluation mode, no parameter takes gradients, and a GPU computes as a CPU does.

    That is in full float32, and the same each time. TF32, cuDNN's default for convolutions, has 10 bits of mantissa:
    logits differ from a CPU's by 4e-4. Its algorithms for gradients may add in another order each time.
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
def observe_layers(network: nn.Module, take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While active, one forward pass of `network` hands every layer of interest to `take(name, output)`, in order.

    The name is the module's, e.g. "stage1.0.conv"; the function's is added where a module is not torch's own
    ("layer1.0.relu"), and "#2", "#3", ... where it runs more than once in the pass.
    """
    running: list[tuple[str, nn.Module]] = []
    with ExitStack() as stack:
        for name, module in network.named_modules():
            enter = module.register_forward_pre_hook(_push(running, name))
            leave = module.register_forward_hook(_pop(running), always_call=True)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        stack.enter_context(_LayerObserver(running, take))
        yield


def live_layers(network: nn.Module, images: Tensor) -> list[str]:
    """Names of the layers of interest whose output reaches the logits, in the order in which they run.

    A layer is dead if changing its output does not change any logit: no gradient comes back to it for any of the
    `images`, (n, channels, height, width); a few suffice. It is then no part of the network, whatever it computes.
    """
    outputs: dict[str, Tensor] = {}
    with evaluation_mode(network), torch.enable_grad(), observe_layers(network, outputs.__setitem__):
        logits = network(images.detach().clone().requires_grad_())
    # a different weight for each logit: softmax outputs sum to one, and their sum has no gradient
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device, dtype=logits.dtype)
    inner = {name: output for name, output in outputs.items() if output.requires_grad and len(output) == len(images)}
    if not inner:
        return []
    gradients = torch.autograd.grad((logits @ weights).sum(), list(inner.values()), allow_unused=True)
    return [name for name, g in zip(inner, gradients, strict=True) if g is not None and bool(g.any())]


class _LayerObserver(TorchFunctionMode):
    """Sees every torch function that is called from Python, but not those that it calls in turn."""

    def __init__(self, running: list[tuple[str, nn.Module]], take: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.running = running
        self.take = take
        self.times: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        function = getattr(func, "__name__", "").rstrip("_")  # relu_ is relu in place
        if self.running and function in CONVOLUTIONS | ACTIVATIONS:
            name = self._name(function)
            self.times[name] += 1
            self.take(name if self.times[name] == 1 else f"{name}#{self.times[name]}", output)
        return output

    def _name(self, function: str) -> str:
        name, module = self.running[-1]
        is_own = type(module).__module__.startswith("torch.nn.modules")
        return name if is_own and name else ".".join(filter(None, (name, function)))


def _push(running: list[tuple[str, nn.Module]], name: str) -> Callable[[nn.Module, Any], None]:
    return lambda module, _: running.append((name, module))


def _pop(running: list[tuple[str, nn.Module]]) -> Callable[[nn.Module, Any, Any], None]:
    return lambda *_: (running.pop(), None)[1]
