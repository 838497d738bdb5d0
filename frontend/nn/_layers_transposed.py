"""Layers of transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._tensor import Tensor
from . import functional as F
from ._functional_linear import as_tuple
from ._layers_linear import _Conv


class _ConvTranspose(_Conv):
    """What the transposed convolutions share; `rank` is the number of axes that the kernel moves along."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1,
        padding_mode: str = "zeros", device: object = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        if isinstance(padding, str):
            raise TypeError(
                f"{type(self).__name__}: padding must be an int or a tuple of ints, not {padding!r}"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip
        self.output_padding = as_tuple(output_padding, self.rank, "output_padding")

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """output_size: of the result, its trailing sizes or all; several give inputs of one size with a
        stride."""
        more = self.output_padding if output_size is None else self._padding_for(input, output_size)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        return convolve(
            input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives this size. Raises ValueError if none does."""
        lead = input.ndim - self.rank
        wanted = tuple(output_size[lead:] if len(output_size) == input.ndim else output_size)
        if len(wanted) != self.rank:
            raise ValueError(
                f"{type(self).__name__}: for {input.ndim}D input, output_size must have {self.rank} or "
                f"{input.ndim} elements (got {len(output_size)})"
            )
        assert not isinstance(self.padding, str)
        sizes = zip(
            input.shape[lead:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
        )
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in sizes]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        if any(not a <= n <= b for n, a, b in zip(wanted, least, most, strict=True)):
            raise ValueError(
                f"requested an output size of {list(wanted)}, but valid sizes range from {least} to {most} "
                f"(for an input of {list(input.shape[lead:])})"
            )
        return tuple(n - a for n, a in zip(wanted, least, strict=True))

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if not any(self.output_padding):
            return text
        before, mark, after = (
            text.partition(", groups=") if ", groups=" in text else text.partition(", bias=")
        )
        return f"{before}, output_padding={self.output_padding}{mark}{after}"


class ConvTranspose1d(_ConvTranspose):
    """[n, c, l] spread by kernels [c, out / groups, k], plus bias; see `functional.conv_transpose1d`."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """[n, c, h, w] spread by kernels [c, out / groups, kh, kw], plus bias.

    >>> nn.ConvTranspose2d(16, 8, 2, stride=2)
    ConvTranspose2d(16, 8, kernel_size=(2, 2), stride=(2, 2))
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """[n, c, d, h, w] spread by kernels [c, out / groups, kd, kh, kw], plus bias."""

    rank = 3
