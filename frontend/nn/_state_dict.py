"""Collecting and loading the state of modules by dotted names, with PyTorch's rules and error texts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._tape import no_grad
from .._tensor import Tensor
from ._parameter import Parameter

if TYPE_CHECKING:
    from ._module import Module


class IncompatibleKeys(NamedTuple):
    """What loading did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def local_state(module: Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for the module's own parameters and persistent buffers."""
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield name, buffer


def collect_state(
    module: Module, destination: dict[str, Any] | None, prefix: str, keep_vars: bool
) -> dict[str, Any]:
    """The state of the module and all below it, into `destination` or a new ordered dict."""
    state = OrderedDict() if destination is None else destination
    for name, tensor in local_state(module):
        state[prefix + name] = tensor if keep_vars else tensor.detach()
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    return state


def load_state(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """See Module.load_state_dict."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    with no_grad():
        _load_below(module, state_dict, "", assign, missing, errors)
    known = {f"{prefix}{name}" for prefix, m in _prefixed(module, "") for name, _ in local_state(m)}
    unexpected = [key for key in state_dict if key not in known]
    if strict and missing:
        errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if strict and unexpected:
        errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
    if errors:
        listed = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{listed}")
    return IncompatibleKeys(missing, unexpected)


def _load_below(
    module: Module, state: Mapping[str, Any], prefix: str, assign: bool, missing: list[str], errors: list[str]
) -> None:
    for name, tensor in list(local_state(module)):
        key = prefix + name
        if key not in state:
            missing.append(key)
        elif error := _load_one(module, name, tensor, key, state[key], assign):
            errors.append(error)
    for name, child in module._modules.items():
        if child is not None:
            _load_below(child, state, f"{prefix}{name}.", assign, missing, errors)


def _load_one(module: Module, name: str, tensor: Tensor, key: str, given: Any, assign: bool) -> str | None:
    """Load one tensor; gives what is wrong, or None."""
    if not isinstance(given, Tensor):
        return (
            f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from '
            f"checkpoint but received {type(given)}"
        )
    if given.shape != tensor.shape:
        return (
            f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
            f"the shape in current model is {tensor.shape}."
        )
    if assign:
        keep = isinstance(tensor, Parameter)
        setattr(module, name, Parameter(given, requires_grad=tensor.requires_grad) if keep else given)
    else:
        tensor.copy_(given)
    return None


def _prefixed(module: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _prefixed(child, f"{prefix}{name}.")


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{k}"' for k in keys)
