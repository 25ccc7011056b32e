"""Settings of one network: shape, heads and training. With inputs, targets and seed they determine its weights."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from gatecast.errors import did_you_mean
from gatecast.samples.targets import HEADS, columns_of
from gatecast.settings import SHARED, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

MANY_ROWS = 5_000


class Recipe(Settings):
    """One network's shape and training: stacked LSTM of Hochreiter and Schmidhuber (1997), Adam, early stopping."""

    lookback: Annotated[int, Field(ge=10, le=100), SHARED] = 30
    """bars in a window, T"""
    units: Annotated[int, Field(ge=16, le=256)] = 64
    """units in a layer"""
    layers: Annotated[int, Field(ge=1, le=3)] = 2
    """layers, one upon the other"""
    dropout: Annotated[float, Field(ge=0, lt=0.9)] = 0.2
    """share dropped between layers and before the heads"""
    horizon: Annotated[int, Field(ge=1, le=22), SHARED] = 5
    """bars ahead, h"""
    heads: tuple[str, ...] = HEADS
    """what it forecasts"""
    training: Literal["chunks", "windows"] = "chunks"
    """on chunks of bars, or window by window as the reference"""
    engine: Literal["compiled", "torch"] = "compiled"
    """the compiled kernel, or its readable twin"""
    burn_in_gradient: bool = True
    """gradients run through the bars before a chunk's labels; without it memory ends at the chunk's length"""
    forget_bias: Annotated[float, Field(ge=-5, le=5)] = 1.0
    """what the forget gates' biases begin with: at 1 a network keeps .73 of its memory at each bar from the start, at 0
    half of it, which lost less in the regime head on two-year windows; but of an answer planted 16 or more bars back
    one network in four then found nothing, see docs/heads.md"""
    selection: bool = False
    """weigh the features at each bar before the first layer"""
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2.5e-3
    """step size of Adam"""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    """weight decay of Adam; at most .01 while the training loss has not fallen at all, since more can hold it there"""
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """largest norm of the gradient"""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 60
    """passes through the training rows, at most"""
    patience: Annotated[int, Field(ge=1, le=1000)] = 5
    """epochs without a better validation loss before it stops; counted once the training loss has fallen at all, since
    a network on a plateau has nothing to overfit"""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """share of the earlier epochs in the running mean of the weights that is validated and kept, see Izmailov et al.
    2018; 0: the last epoch's alone"""
    chunk: Annotated[int, Field(ge=1, le=500)] | None = Field(default=None, examples=[16])
    """labels in a chunk, K; left out: 32, or 16 where there are 5,000 rows to train on or more, which then need the
    finer steps"""
    batch: Annotated[int, Field(ge=1, le=512)] = 4
    """chunks in an update, B"""

    @field_validator("heads")
    @classmethod
    def _known_heads(cls, heads: tuple[str, ...]) -> tuple[str, ...]:
        for head in heads:
            if head not in HEADS:
                raise ValueError(f"unknown head {head!r}. {did_you_mean(head, HEADS)}")
        if not heads:
            raise ValueError(f"expected at least one of {', '.join(HEADS)}, got none")
        return tuple(head for head in HEADS if head in heads)

    def labels(self, rows: int) -> int:
        """Labels in a chunk where there are so many rows to train on."""
        return self.chunk or (32 if rows < MANY_ROWS else 16)

    @cached_property
    def output_columns(self) -> IntArray:
        """Columns of the encoded table that the heads need, in order."""
        where = columns_of(self.horizon)
        return np.concatenate([np.arange(where[head].start, where[head].stop) for head in self.heads])

    @cached_property
    def binary_columns(self) -> tuple[bool, ...]:
        """Which outputs are log-odds."""
        return tuple(
            head in ("direction", "regime")
            for head in self.heads
            for _ in range(self.horizon if head == "return" else 1)
        )
