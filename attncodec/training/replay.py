"""This module captures a training step as one CUDA graph, and replays it.

A step is some thousands of small kernels, and launching them one by one takes a CPU several times as long as the GPU
needs to run them. Once captured, they are launched together.
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)

BEFORE = 3  # Steps before the capture compile, choose kernels, and make the optimisers' state.

Given = TypeVar("Given", bound="DataclassInstance")
Found = TypeVar("Found", bound="DataclassInstance")
Copied = TypeVar("Copied", bound="DataclassInstance")


class Replay(Generic[Given, Found]):
    """Takes steps by calling `take`, and after a few of the same shapes by replaying a captured one.

    The inputs and the result of a step are dataclasses of tensors on the device. All else that a step reads and writes
    must stay at the same place in memory.

    If capturing does not work, a warning is logged, and every step calls `take`.
    """

    def __init__(self, take: Callable[[Given], Found], device: torch.device) -> None:
        self.take = take
        # A capture needs a stream of its own, and the steps before it must run on that stream, too.
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.works = True
        self.forget()

    def forget(self) -> None:
        """Drop the captured step, because the tensors that it works on have been replaced."""
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Given | None = None
        self.result: Found | None = None
        self.shapes: list[torch.Size] = []
        self.steps = 0

    def __call__(self, inputs: Given) -> Found:
        """Take a step."""
        shapes = [tensor.shape for tensor in _tensors(inputs)]
        if shapes != self.shapes:
            self.forget()
            self.shapes = shapes
        if self.graph is None and self.works and self.steps >= BEFORE:
            self._capture(inputs)
        if self.graph is None or self.inputs is None or self.result is None:
            self.steps += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.take(inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        for mine, given in zip(_tensors(self.inputs), _tensors(inputs), strict=True):
            mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return _copy(self.result)

    def _capture(self, inputs: Given) -> None:
        before, mine, graph = torch.cuda.current_stream(), _copy(inputs), torch.cuda.CUDAGraph()
        try:
            # Other threads may cut crops during the capture, and allocate memory for them.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                result = self.take(mine)
        except Exception as error:  # The driver, a compiled network or anything else that a step calls may raise it.
            self.works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("steps cannot be captured as a CUDA graph, so training continues without it: %s", reason)
        else:
            self.graph, self.inputs, self.result = graph, mine, result
        finally:
            torch.cuda.set_stream(before)  # A capture that fails leaves its own stream as the current one.


def _tensors(of: "DataclassInstance") -> list[Tensor]:
    return [getattr(of, field.name) for field in fields(of)]


def _copy(of: Copied) -> Copied:
    return type(of)(*(tensor.clone() for tensor in _tensors(of)))
