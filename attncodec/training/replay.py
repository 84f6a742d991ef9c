"""A step as one CUDA graph.

A step is some thousands of small kernels, and launching them one by one takes a CPU several times as long as the GPU
needs to run them. Captured once, they are launched together.
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

BEFORE = 3  # steps before the capture, which compile, choose kernels, and make the optimisers' state

Given = TypeVar("Given", bound="DataclassInstance")
Found = TypeVar("Found", bound="DataclassInstance")
Copied = TypeVar("Copied", bound="DataclassInstance")


class Replay(Generic[Given, Found]):
    """Takes steps by `take`, and once it has seen a few of the same shapes, by replaying one.

    What a step is given and what it returns are dataclasses of tensors on the device; beside these it reads and writes
    what stays in its place.

    Where capturing does not work, steps are taken as they come, which is said.
    """

    def __init__(self, take: Callable[[Given], Found], device: torch.device) -> None:
        self.take = take
        # A capture needs a stream of its own, and the steps that it repeats must have begun there.
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.works = True
        self.forget()

    def forget(self) -> None:
        """Drop the captured step: the tensors that it works on have been replaced."""
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
            # Other threads may cut crops meanwhile and allocate memory for them.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                result = self.take(mine)
        except Exception as error:  # the driver, a compiled network or anything that a step calls may raise it
            self.works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("steps cannot be captured as a CUDA graph here, so training goes without it: %s", reason)
        else:
            self.graph, self.inputs, self.result = graph, mine, result
        finally:
            torch.cuda.set_stream(before)  # a capture that fails leaves its own stream behind


def _tensors(of: "DataclassInstance") -> list[Tensor]:
    return [getattr(of, field.name) for field in fields(of)]


def _copy(of: Copied) -> Copied:
    return type(of)(*(tensor.clone() for tensor in _tensors(of)))
