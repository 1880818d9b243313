"""ONNX graphs of networks, written by torch.onnx."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram


def onnx_bytes(program: ExportedProgram, outputs: Sequence[str], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the ONNX graph of a program, without paths of this machine. Needs the package `onnxscript`.

    Args:
        program: of `torch.export`.
        outputs: names of its outputs.
        metadata: texts to store in the graph.
    """
    with quiet_exporters():
        graph: Any = torch.onnx.export(program, dynamo=True, output_names=list(outputs), verbose=False)
    graph.model.metadata_props.update(metadata or {})
    proto = graph.model_proto
    for part in (*proto.graph.node, *proto.graph.initializer, *proto.graph.value_info):
        part.ClearField("metadata_props")  # stack traces with paths
        part.ClearField("doc_string")
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Suppress warnings of the exporters about unused packages and their own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
