"""Recurrent layers: RNN, LSTM, GRU, with PyTorch's parameters and errors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from .._functions import cat, empty, stack, zeros
from .._size import check_device
from .._tensor import Tensor
from . import functional as F
from . import init
from ._functional_recurrent import GATES, recurrent_layer
from ._module import Module
from ._packed import PackedSequence, mask_of, packed_as, padded
from ._parameter import Parameter


class RNNBase(Module):
    """What the recurrent layers share. Weights and biases begin uniform within 1 / sqrt(hidden_size)."""

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: object = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_device(device)
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        directions = 2 if bidirectional else 1
        self._names: list[tuple[str, ...]] = []
        for layer in range(num_layers):
            for direction in range(directions):
                width = input_size if layer == 0 else self._state_size * directions
                self._make_weights(layer, direction, width, dtype)
        self.reset_parameters()

    @property
    def _state_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _make_weights(self, layer: int, direction: int, width: int, dtype: Any) -> None:
        rows = GATES[self.mode] * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, width),
            "weight_hh": (rows, self._state_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        suffix = f"_l{layer}" + ("_reverse" if direction else "")
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(empty(shape, dtype=dtype)))
        self._names.append(tuple(name + suffix for name in shapes))

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: kernels read the weights where they are."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._names]

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raises RuntimeError or ValueError for an input that does not fit."""
        weight = getattr(self, self._names[0][0])
        if input.dtype is not weight.dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert "
                f"input: input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {input.size(-1)}"
            )

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        shown = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0}
        for name, default in {**shown, "bidirectional": False}.items():
            if (value := getattr(self, name)) != default:
                text += f", {name}={value}"
        return text

    def _run(
        self, input: Any, states: Sequence[Tensor] | None, what: Sequence[str]
    ) -> tuple[Any, list[Tensor]]:
        """(output, last states) for the initial states, one after the other. what: the states' names in
        messages."""
        packed = input if isinstance(input, PackedSequence) else None
        batched = packed is not None or input.dim() == 3
        if packed is not None:
            self.check_input(packed.data, packed.batch_sizes)
            steps = padded(packed)
        else:
            steps = input if batched else input.unsqueeze(1)
            if self.batch_first and batched:
                steps = steps.transpose(0, 1)
            self.check_input(input if batched else input.unsqueeze(1), None)
            if steps.shape[0] == 0:
                raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        given = self._initial(steps, states, batched, what, packed)
        output, last = self._layers(steps, given, None if packed is None else mask_of(packed))
        if packed is not None:
            order = packed.unsorted_indices
            if order is not None:
                last = [x.index_select(1, order) for x in last]
            return packed_as(output, packed), last
        if not batched:
            return output.squeeze(1), [x.squeeze(1) for x in last]
        return output.transpose(0, 1) if self.batch_first else output, last

    def _initial(
        self, steps: Tensor, states: Sequence[Tensor] | None, batched: bool, what: Sequence[str],
        packed: PackedSequence | None,
    ) -> list[Tensor]:  # fmt: skip
        """The initial states, [layers * directions, b, size] each; zero if not given."""
        count, batch = len(self._names), steps.shape[1]
        sizes = [self._state_size, self.hidden_size][: len(what)]
        if states is None:
            return [zeros((count, batch, size), dtype=steps.dtype) for size in sizes]
        self._check_ranks(states, batched)
        given = [x if batched else x.unsqueeze(1) for x in states]
        for x, name, size in zip(given, what, sizes, strict=True):
            if tuple(x.shape) != (count, batch, size):
                raise RuntimeError(f"Expected {name} size {(count, batch, size)}, got {list(x.shape)}")
        order = None if packed is None else packed.sorted_indices
        return given if order is None else [x.index_select(1, order) for x in given]

    def _check_ranks(self, states: Sequence[Tensor], batched: bool) -> None:
        rank = 3 if batched else 2
        if any(x.dim() != rank for x in states):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            have = f"{states[0].dim()}-D tensor"
            names = "hx"
            if len(states) > 1:
                names, have = "hx and cx", f"({states[0].dim()}-D, {states[1].dim()}-D) tensors"
            raise RuntimeError(f"For {kind} input, {names} should also be {rank}-D but got {have}")

    def _layers(
        self, steps: Tensor, states: list[Tensor], valid: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        directions = 2 if self.bidirectional else 1
        last: list[list[Tensor]] = []
        for number in range(0, len(self._names), directions):
            outputs = []
            for at in range(number, number + directions):
                weights = [getattr(self, name) for name in self._names[at]]
                own = [x[at] for x in states]
                output, final = recurrent_layer(self.mode, steps, own, weights, self.bias, at > number, valid)
                outputs.append(output)
                last.append(final)
            steps = outputs[0] if directions == 1 else cat(outputs, -1)
            if self.dropout > 0 and number + directions < len(self._names):
                steps = F.dropout(steps, self.dropout, self.training)
        return steps, [stack(list(xs)) for xs in zip(*last, strict=True)]


def _check_options(
    input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
    proj_size: int,
) -> None:  # fmt: skip
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being "
            "zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=5,
        )
    for name, value in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


class RNN(RNNBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, over a sequence.

    input: [t, b, i], [t, i] without a batch, [b, t, i] with batch_first, or a PackedSequence; hx: [layers *
    directions, b, h]. Gives the last layer's states of all steps, and the last states of all layers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            self.nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self.nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from 'tanh' or 'relu'.")
        nonlinearity = self.nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        if isinstance(input, Tensor) and input.dim() not in (2, 3):
            raise ValueError(f"RNN: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")
        output, (last,) = self._run(input, None if hx is None else [hx], ["hidden"])
        return output, last


class GRU(RNNBase):
    """Gated recurrent units: n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h, with gates r
    and z. Input and results as for `RNN`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        if isinstance(input, Tensor) and input.dim() not in (2, 3):
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {input.dim()}D instead")
        output, (last,) = self._run(input, None if hx is None else [hx], ["hidden"])
        return output, last


class LSTM(RNNBase):
    """Long short-term memory: c' = f c + i g, h' = o tanh(c'), with gates i, f, o and new values g; with
    proj_size h' = W_hr (o tanh(c')).

    input as for `RNN`; hx: (h [layers * directions, b, h], c), of which each layer's last ones are given.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        if isinstance(input, Tensor) and input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        output, (h, c) = self._run(input, hx, ["hidden[0]", "hidden[1]"])
        return output, (h, c)
