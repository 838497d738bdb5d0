"""Recurrent cells: one step of RNN, LSTM and GRU, with PyTorch's parameters and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._functions import empty, zeros
from .._size import check_device
from .._tensor import Tensor
from . import init
from ._functional_recurrent import GATES, step_of
from ._module import Module
from ._parameter import Parameter


class RNNCellBase(Module):
    """What the cells share. Weights and biases begin uniform within 1 / sqrt(hidden_size)."""

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, bias: bool, device: object, dtype: Any
    ) -> None:
        super().__init__()
        check_device(device)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = GATES[mode] * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty((rows,), dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + (f", bias={self.bias}" if not self.bias else "")

    def _step(self, mode: str, input: Tensor, states: Sequence[Tensor] | None, count: int) -> list[Tensor]:
        """The new states for an input [b, i] or [i]."""
        batched = input.dim() == 2
        rows = input if batched else input.unsqueeze(0)
        if states is None:
            given = [zeros((rows.shape[0], self.hidden_size), dtype=rows.dtype)] * count
        else:
            given = [x if batched else x.unsqueeze(0) for x in states]
        self._check(rows, given)
        weights = [w for w in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh) if w is not None]
        new = step_of(mode, rows, given, weights)
        return new if batched else [x.squeeze(0) for x in new]

    def _check(self, rows: Tensor, states: Sequence[Tensor]) -> None:
        if rows.shape[1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {rows.shape[1]} expected {self.input_size}"
            )
        for number, x in enumerate(states):
            if x.shape[0] != rows.shape[0]:
                raise RuntimeError(
                    f"Input batch size {rows.shape[0]} doesn't match hidden{number} batch size {x.shape[0]}"
                )
            if x.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{number} has inconsistent hidden_size: got {x.shape[1]}, expected "
                    f"{self.hidden_size}"
                )


def _check_rank(name: str, what: str, x: Tensor) -> None:
    if x.dim() not in (1, 2):
        raise ValueError(f"{name}: Expected {what} to be 1D or 2D, got {x.dim()}D instead")


class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. input: [b, i] or [i]; hx: [b, h] or [h]."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: object = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__("RNN_TANH", input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        shown = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + shown

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        _check_rank("RNNCell", "input", input)
        if hx is not None:
            _check_rank("RNNCell", "hidden", hx)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        mode = f"RNN_{self.nonlinearity.upper()}"
        return self._step(mode, input, None if hx is None else [hx], 1)[0]


class GRUCell(RNNCellBase):
    """One step of `GRU`. input: [b, i] or [i]; hx: [b, h] or [h]."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: object = None, dtype: Any = None
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        _check_rank("GRUCell", "input", input)
        if hx is not None:
            _check_rank("GRUCell", "hidden", hx)
        return self._step("GRU", input, None if hx is None else [hx], 1)[0]


class LSTMCell(RNNCellBase):
    """One step of `LSTM`. input: [b, i] or [i]; hx: (h, c), each [b, h] or [h]. Gives (h, c)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: object = None, dtype: Any = None
    ) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        _check_rank("LSTMCell", "input", input)
        for number, x in enumerate(hx or ()):
            _check_rank("LSTMCell", f"hx[{number}]", x)
        h, c = self._step("LSTM", input, hx, 2)
        return h, c
