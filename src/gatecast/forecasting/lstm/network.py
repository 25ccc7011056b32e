"""The LSTM and its heads as a readable torch network: the kernel's twin, its test oracle, and the path for a GPU.

    i = sigmoid(Wi x + Ui h + bi)   f = sigmoid(Wf x + Uf h + bf)   o = sigmoid(Wo x + Uo h + bo)
    C = f * C + i * tanh(Wc x + Uc h + bc)                          h = o * tanh(C)

after Hochreiter and Schmidhuber (1997), Neural Computation 9, with the forget gate of Gers et al. (2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gatecast.forecasting.lstm.selection import PACE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

GATES = (0, 1, 3, 2)  # the kernel's order i, f, o, u as torch's i, f, u, o, and back


class Network(nn.Module):
    """Stacked LSTM layers and one dense layer for all heads, time-major; before them `selection` of the features."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int, selection: bool = False) -> None:
        super().__init__()
        self.selection = nn.Linear(inputs, inputs) if selection else None
        self.layers = nn.ModuleList(nn.LSTM(inputs if layer == 0 else units, units) for layer in range(layers))
        self.head = nn.Linear(units, outputs)
        for name, weight in self.named_parameters():
            if "bias_hh" in name:  # torch has two biases, the cell has one
                weight.requires_grad_(False).zero_()

    def forward(self, inputs: torch.Tensor, last: int, masks: list[torch.Tensor] | None = None) -> torch.Tensor:
        """(steps, batch, inputs) -> (last, batch, outputs) at the last steps, from a zero state.

        `masks`: one (steps, batch, units) a layer, multiplied with its output; None without dropout.
        """
        hidden = inputs
        if self.selection is not None:
            logits = inputs @ self.selection.weight.T + PACE * self.selection.bias
            hidden = inputs.shape[-1] * torch.softmax(logits, dim=-1) * inputs
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden)[0]
            if masks is not None:
                hidden = hidden * masks[number]
        outputs: torch.Tensor = self.head(hidden[-last:])
        return outputs

    def named_weights(self) -> dict[str, nn.Parameter]:
        """The trained parameters by the kernel's names, in torch's layout."""
        found: dict[str, Any] = {}
        for number, layer in enumerate(self.layers):
            found[f"{number}.wx"], found[f"{number}.wh"] = layer.weight_ih_l0, layer.weight_hh_l0
            found[f"{number}.b"] = layer.bias_ih_l0
        if self.selection is not None:
            found |= {"select.w": self.selection.weight, "select.b": self.selection.bias}
        return found | {"head.w": self.head.weight, "head.b": self.head.bias}

    def weights(self, *, gradients: bool = False) -> Weights:
        """The weights, or their gradients, in the kernel's layout: (inputs, 4, units), (4, units), (units, outputs)."""
        found = {}
        for name, parameter in self.named_weights().items():
            array = (parameter.grad if gradients and parameter.grad is not None else parameter).detach().cpu().numpy()
            if name.startswith(("head", "select")):
                found[name] = array.T.copy()
            else:
                by_gate = array.reshape(4, -1, *array.shape[1:])[list(GATES)]
                found[name] = by_gate.transpose(2, 0, 1).copy() if array.ndim == 2 else by_gate.copy()
        return found

    def load(self, weights: Weights) -> Network:
        """The same network with weights in the kernel's layout."""
        with torch.no_grad():
            for name, parameter in self.named_weights().items():
                array = weights[name]
                if name.startswith(("head", "select")):
                    array = array.T
                elif array.ndim == 3:
                    array = array.transpose(1, 2, 0)[list(GATES)].reshape(-1, array.shape[0])
                else:
                    array = array[list(GATES)].reshape(-1)
                parameter.copy_(torch.from_numpy(array.copy()))
        return self
