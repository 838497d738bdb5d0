"""`Parameter`: a leaf tensor that becomes a parameter of a `Module` when assigned to an attribute."""

from __future__ import annotations

from typing import Any

from .._tensor import Tensor, alias, track


class Parameter(Tensor):
    """A tensor that is to be learned; shares memory with `data`.

    >>> nn.Parameter(torch.zeros(2))
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        if data is None:
            from .._functions import empty

            data = empty((0,))
        super().__init__(data._storage, data._type)
        track(self)
        self.requires_grad_(requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = Parameter(self.data.clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Parameter, (self.data, self.requires_grad)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return "Parameter containing:\n" + repr(alias(self, self._node))


def typename(value: object) -> str:
    """The name of a value's type as error messages give it: `int`, `vitrify.FloatTensor`, `my.Class`."""
    cls = type(value)
    if isinstance(value, Tensor) and cls is Tensor:
        return f"vitrify.{value.dtype.name}Tensor"
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
