"""A transform runs on a large picture strip by strip, and gives what it would give on the whole picture.

Each layer keeps the last rows of its input, because the next strip needs them again. Nothing is computed twice but a
few rows within a block, and memory depends on the size of a strip, not on that of the picture.

A layer with an attribute `reach` sees that many rows above and below each row that it computes, and as many columns.
`grid`, 1 if it is not there, divides the row at which a strip may begin: the windows of attention start there. `scale`
says how many rows of the input make how many of the output. A layer without `reach` sees the whole picture.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from attncodec.networks.transforms import STRIDE, AnalysisTransform, SynthesisTransform, normalise

# A strip has about this many pixels. Smaller ones compute more rows twice, and larger ones need more memory.
STRIP_AREA = 1 << 21
STRIP_UNIT = 128  # Strips start at multiples of this many rows, where the windows of most models begin.


class Rows(Protocol):
    """A map (1, C, height, W) whose rows are computed when they are asked for."""

    @property
    def height(self) -> int:
        """Return the number of rows."""
        ...

    def rows(self, span: slice) -> Tensor:
        """Compute the rows of a span, (1, C, rows, W)."""
        ...


class MappedRows:
    """Applies a function to rows. It computes each element from the one at its place."""

    def __init__(self, function: Callable[[Tensor], Tensor], source: Rows) -> None:
        self.function, self.source, self.height = function, source, source.height

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        return self.function(self.source.rows(span))


class RecentRows:
    """Asks a source for each row once, and holds it until it is forgotten. Spans may overlap, and go down the map."""

    def __init__(self, source: Rows) -> None:
        self.source, self.height = source, source.height
        self.held: Tensor | None = None
        self.start = self.stop = 0  # the span of the rows that are held

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        if self.held is None or not self.start <= span.start <= self.stop:
            self.held, self.start, self.stop = self.source.rows(span), span.start, span.stop
        elif span.stop > self.stop:
            self.held = torch.cat([self.held, self.source.rows(slice(self.stop, span.stop))], dim=2)
            self.stop = span.stop
        return self.held[..., span.start - self.start : span.stop - self.start, :]

    def forget(self, before: int) -> None:
        """Free the rows above a row. The others are copied, because a view would keep the memory of all."""
        if self.held is not None:
            self.held = self.held[..., before - self.start :, :].clone() if before < self.stop else None
            self.start = before


class LayerRows:
    """The output of a layer, for spans that follow each other from the top."""

    def __init__(self, layer: nn.Module, source: Rows) -> None:
        self.layer, self.source = layer, RecentRows(source)
        self.height = scaled(layer, source.height)

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        need = needed(self.layer, span, self.source.height)
        x = self.source.rows(need)
        following = slice(span.stop, min(span.stop + 1, self.height))
        self.source.forget(needed(self.layer, following, self.source.height).start)
        first = span.start - scaled(self.layer, need.start)
        rows: Tensor = self.layer(x)[..., first : first + span.stop - span.start, :]
        return rows


class AnalysedRows:
    """The latents of a picture. `x` has rows (1, 3, rows, W) in [0, 1]; its height and W are multiples of 16."""

    def __init__(self, analysis: AnalysisTransform, x: Rows) -> None:
        self.analysis, self.x = analysis, MappedRows(normalise, x)
        self.features = chain(analysis.network, self.x)
        self.height = self.features.height

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        features = self.features.rows(span)
        return self.analysis.with_linear(self.x.rows(slice(STRIDE * span.start, STRIDE * span.stop)), features)


class SynthesisedRows:
    """The picture that latents without their gains, (1, M, rows, w), are mapped to, about in [0, 1]."""

    def __init__(self, synthesis: SynthesisTransform, y: Rows) -> None:
        self.synthesis, self.y = synthesis, RecentRows(y)
        self.correction = chain([*synthesis.network, synthesis.head], self.y)
        self.height = self.correction.height

    def rows(self, span: slice) -> Tensor:
        """Compute the rows of a span, which starts and ends at multiples of 16."""
        correction, part = self.correction.rows(span), slice(span.start // STRIDE, span.stop // STRIDE)
        y = self.y.rows(part)
        self.y.forget(part.stop)
        return self.synthesis.with_linear(y, correction)


def reach_of(layer: nn.Module) -> int | None:
    """Return how many rows a layer sees above and below each row, or None if it sees the whole picture."""
    if isinstance(layer, nn.Conv2d):
        return int(layer.kernel_size[0]) // 2
    reach: int | None = 0 if isinstance(layer, nn.Identity) else getattr(layer, "reach", None)
    return reach


def scaled(layer: nn.Module, length: int) -> int:
    """Return how many rows a layer makes of some rows."""
    taken, given = _scale(layer)
    return length * given // taken


def needed(layer: nn.Module, span: slice, length: int) -> slice:
    """Return the rows of an input that the rows `span` of a layer's output depend on, if it has `length` rows."""
    reach, grid, (taken, given) = reach_of(layer), getattr(layer, "grid", 1), _scale(layer)
    if reach is None:
        return slice(0, length)
    start, stop = span.start * taken // given - reach, -(-span.stop * taken // given) + reach
    return slice(max(0, start // grid * grid), min(stop, length))


def _scale(layer: nn.Module) -> tuple[int, int]:
    scale: tuple[int, int] = getattr(layer, "scale", (1, 1))
    return scale


def needed_latents(synthesis: SynthesisTransform, pixels: slice, length: int) -> slice:
    """Return the columns of y, of which there are `length`, that some columns of a picture depend on.

    The columns of y can stand for a whole picture: they begin where windows of attention do.
    """
    layers, lengths = [*synthesis.network, synthesis.head], [length]
    for layer in layers:
        lengths.append(scaled(layer, lengths[-1]))
    span = pixels
    for layer, before in zip(reversed(layers), reversed(lengths[:-1]), strict=True):
        span = needed(layer, span, before)
    grid = math.lcm(*(getattr(layer, "grid", 1) for layer in layers))
    return slice(span.start // grid * grid, span.stop)


def chain(layers: Iterable[nn.Module], source: Rows) -> Rows:
    """Return the output of layers in turn, the first of which takes `source`."""
    for layer in layers:
        source = LayerRows(layer, source)
    return source


def strip_spans(
    transform: AnalysisTransform | SynthesisTransform, rows: slice, width: int, area: int
) -> Iterator[slice]:
    """Cut rows of a picture into strips of about an `area` for a transform.

    It is one strip if a layer sees the whole picture.
    """
    bounded = all(reach_of(layer) is not None for layer in transform.network)
    height = max(STRIP_UNIT, area // width // STRIP_UNIT * STRIP_UNIT) if bounded else rows.stop - rows.start
    return (slice(rows.start + span.start, rows.start + span.stop) for span in spans(rows.stop - rows.start, height))


def collect(parts: Iterable[Tensor], height: int) -> Tensor:
    """Put parts of a map, (1, C, rows, W), one below the other, without holding all of them twice."""
    whole, row = torch.empty(0), 0
    for part in parts:
        if part.shape[2] == height:
            return part
        if not row:
            size = (1, part.shape[1], height, part.shape[3])
            whole = torch.empty(size, dtype=part.dtype, memory_format=torch.channels_last)
        whole[..., row : row + part.shape[2], :] = part
        row += part.shape[2]
    return whole


def spans(length: int, step: int) -> Iterator[slice]:
    """Cut a length into spans of `step`, the last of which has what is left."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
