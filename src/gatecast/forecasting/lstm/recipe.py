"""What decides how one network becomes what it is, given its scaled inputs and answers: shape, heads and training."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from gatecast.errors import did_you_mean
from gatecast.samples.targets import HEADS, columns_of
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

MANY_ROWS = 5_000


class Recipe(Settings):
    """One network's shape and training: stacked LSTM of Hochreiter and Schmidhuber (1997), Adam, early stopping.

    Attributes
    ----------
    lookback: bars in a window (T), 10-100. horizon: bars ahead, 1-22. units: 16-256. layers: 1-3.
    dropout: between layers and before the heads. heads: what it forecasts.
    selection: weigh the features at each bar before the first layer, see `lstm.selection`.
    epochs, patience: early stopping on the validation block; patience counts once the training loss has fallen at all,
        since a network on a plateau has nothing to overfit.
    averaging: share of the earlier epochs in the running mean of the weights that is validated and kept (Izmailov et
        al. 2018); 0 keeps the last epoch's alone.
    chunk, batch: labels in a chunk (K) and chunks in an update (B). None: 32, and 16 where there are `MANY_ROWS` to
        train on or more, which then need the finer steps. clip: largest gradient norm.
    training: "chunks", or "windows" as the reference. engine: "compiled", or "torch", its readable twin.
    burn_in_gradient: let gradients run through the bars before a chunk's labels; without it memory ends at K bars.
    """

    lookback: Annotated[int, Field(ge=10, le=100)] = 30
    units: Annotated[int, Field(ge=16, le=256)] = 64
    layers: Annotated[int, Field(ge=1, le=3)] = 2
    dropout: Annotated[float, Field(ge=0, lt=0.9)] = 0.2
    horizon: Annotated[int, Field(ge=1, le=22)] = 5
    heads: tuple[str, ...] = HEADS
    training: Literal["chunks", "windows"] = "chunks"
    engine: Literal["compiled", "torch"] = "compiled"
    burn_in_gradient: bool = True
    selection: bool = False
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2.5e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    clip: Annotated[float, Field(gt=0)] = 1.0
    epochs: Annotated[int, Field(ge=1, le=1000)] = 60
    patience: Annotated[int, Field(ge=1, le=1000)] = 5
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.5
    chunk: Annotated[int, Field(ge=1, le=500)] | None = None
    batch: Annotated[int, Field(ge=1, le=512)] = 4

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
