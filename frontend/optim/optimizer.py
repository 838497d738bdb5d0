"""`Optimizer`: parameter groups, per-parameter state and their dict form, laid out as PyTorch's.

A subclass gives `_init_state` (the state of one parameter) and `_update` (one step of one parameter, as
elementwise tensor operations). The state is materialised before a step is captured, so a compiled step meets
the same state at the first call as at all later ones.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from vitrify.tracer.calls import follow

from .._composite import Stepper
from .._tape import enable_grad, no_grad
from .._tensor import Tensor
from ..nn._module import clear_grad
from ..nn._parameter import typename
from ._hyper import hyper as hyper

Group = dict[str, Any]
State = dict[str, Any]


class Optimizer:
    """Base class of optimizers.

    params: tensors, (name, tensor) pairs, or dicts that each describe a group of them with options of its
    own. defaults: the options of groups that do not say otherwise. Raises ValueError for no parameters, a
    tensor that is no leaf, or one that is in two groups.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + typename(params)
            )
        self.defaults = defaults
        self._updates = Stepper("_update_all")
        self.state: defaultdict[Tensor, State] = defaultdict(dict)
        self.param_groups: list[Group] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # What a subclass defines.

    def _init_state(self, param: Tensor, group: Group) -> State:
        """The state of a parameter before its first step."""
        return {}

    def _update(self, param: Tensor, grad: Tensor, state: State, group: Group) -> None:
        """One step of one parameter, in place; runs without grad."""
        raise NotImplementedError

    # Stepping.

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. closure: recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = follow(closure)()
        with no_grad():
            self._updates(self)
        return loss

    def _update_all(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, param.grad, self._state_of(param, group), group)

    def _state_of(self, param: Tensor, group: Group) -> State:
        state = self.state[param]
        if not state:
            state.update(self._init_state(param, group))
        return state

    def _is_settled(self) -> bool:
        """Whether its updates are ours, and have made all the state that they will make."""
        params = [p for p in self._all_params() if p.requires_grad]
        ours = type(self).__module__.startswith("vitrify.optim.")
        return ours and all(p._grad is not None for p in params)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_updates"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._updates = Stepper("_update_all")

    def _materialize(self) -> None:
        """Create the state of every parameter that takes part and has none yet."""
        with no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.requires_grad:
                        self._state_of(param, group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters: to None, or to zeros in place."""
        for group in self.param_groups:
            for param in group["params"]:
                clear_grad(param, set_to_none)

    # Groups.

    def add_param_group(self, param_group: Group) -> None:
        """Add a group: a dict with `params` and any options that differ from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        _set_params(param_group)
        for param in param_group["params"]:
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {typename(param)}"
                )
            if not param.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        own = set(map(id, param_group["params"]))
        if len(own) != len(param_group["params"]):
            warnings.warn("optimizer contains a parameter group with duplicate parameters", stacklevel=3)
        if any(id(p) in own for group in self.param_groups for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    # State as a dict.

    def state_dict(self) -> dict[str, Any]:
        """`state` (parameter number -> its state) and `param_groups` (options, and parameters by number)."""
        numbers = {id(p): n for n, p in enumerate(self._all_params())}
        groups = [
            {
                **{k: v for k, v in group.items() if k != "params"},
                "params": [numbers[id(p)] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        return {
            "state": {numbers[id(p)]: dict(s) for p, s in self.state.items() if s},
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state and options of a `state_dict`; tensors are copied, in their parameter's dtype.

        Raises ValueError if the groups' number or sizes differ.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(s["params"]) != len(g["params"]) for s, g in zip(saved, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        numbers = itertools.chain.from_iterable(s["params"] for s in saved)
        by_number = dict(zip(numbers, self._all_params(), strict=True))
        state: defaultdict[Tensor, State] = defaultdict(dict)
        with no_grad():
            for number, entries in state_dict["state"].items():
                param = by_number[number]
                state[param] = {k: _loaded(param, k, v) for k, v in entries.items()}
        self.state = state
        for group, options in zip(self.param_groups, saved, strict=True):
            group.update({k: deepcopy(v) for k, v in options.items() if k != "params"})

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _set_params(group: Group) -> None:
    """Make group["params"] a list of tensors; names given with them go to "param_names"."""
    params = group["params"]
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
            "in sets will change between runs. Please use a list instead."
        )
    entries = [params] if isinstance(params, Tensor) else list(params)
    names = [e[0] for e in entries if isinstance(e, tuple)]
    if names and len(names) != len(entries):
        raise ValueError("all optimizer params should be with/without names. Some param names are missing")
    group["params"] = [e[1] for e in entries] if names else entries
    if names:
        group["param_names"] = names


def _loaded(param: Tensor, key: str, value: Any) -> Any:
    """A copy of one entry of saved state: tensors in the parameter's dtype, except the step counter."""
    if not isinstance(value, Tensor):
        return deepcopy(value)
    if key != "step" and param.is_floating_point():
        value = value.to(param.dtype)
    return value.detach().clone()


def check_options(**limits: tuple[Any, str, bool]) -> None:
    """Raise ValueError for the first option out of range; each is (value, its name, whether it is valid)."""
    for value, label, valid in limits.values():
        if not valid:
            raise ValueError(f"Invalid {label}: {value}")
