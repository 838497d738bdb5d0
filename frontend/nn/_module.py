"""`Module`, the base of everything with parameters, with PyTorch's behaviour.

Invariant: `_version` grows with every change that could alter what the module computes (attributes,
registries, mode, hooks), so that compiled code needs one comparison to know that nothing it read has changed.
Values of parameters and buffers are not part of it: they are inputs of compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from vitrify.tracer import recorder
from vitrify.tracer.calls import follow

from .._tape import no_grad
from .._tensor import Tensor
from ._hooks import RemovableHandle, add_hook, call_with_hooks
from ._parameter import Parameter, typename
from ._registry import Registry, bump_version
from ._state_dict import IncompatibleKeys, collect_state, load_state

M = TypeVar("M", bound="Module")
_MISSING = object()


class Module:
    """Base class of neural network modules.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.linear(x).relu()
    """

    training: bool
    _version: int
    _compiled_call_impl: Callable[..., Any] | None = None

    def __init__(self) -> None:
        state = self.__dict__
        state.setdefault("_version", 0)
        state["training"] = True
        for name in ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks"):
            state[name] = Registry.of(self)
        state["_non_persistent_buffers_set"] = set()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        return self._call_impl(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_pre_hooks or self._forward_hooks:
            return call_with_hooks(self, args, kwargs)
        if recorder.count:  # a capture may want to see what a user's forward does
            return follow(self.forward)(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile this module's forward in place; arguments as for `vitrify.compile`."""
        from .._compile import compile as compile_function

        self._compiled_call_impl = compile_function(self._call_impl, *args, **kwargs)

    # Attributes.

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        for registry in ("_parameters", "_buffers", "_modules"):
            if registry in state and name in state[registry]:
                return state[registry][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if isinstance(value, Parameter):
            self._forget(name, "_parameters", what="parameters")
            self.register_parameter(name, value)
        elif name in state.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or "
                    "None expected)"
                )
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, "_modules", what="module")
            state["_modules"][name] = value
        elif name in state.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}' (torch.nn.Module or "
                    "None expected)"
                )
            state["_modules"][name] = value
        elif name in state.get("_buffers", ()):
            self._set_buffer(name, value)
        else:
            before = state.get(name, _MISSING)
            object.__setattr__(self, name, value)
            if before is not value:
                bump_version(self)

    def _forget(self, name: str, registry: str, *, what: str) -> None:
        """Make way for a new entry of `registry`: drop whatever else has this name."""
        state = self.__dict__
        if registry not in state:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        for place in (state, *(state[r] for r in ("_parameters", "_buffers", "_modules") if r != registry)):
            if name in place:
                del place[name]
        self._non_persistent_buffers_set.discard(name)

    def _set_buffer(self, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"cannot assign '{typename(value)}' as buffer '{name}' (torch.Tensor or None expected)"
            )
        self._buffers[name] = value

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)
        bump_version(self)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__, *self._parameters, *self._buffers, *self._modules}
        return sorted(n for n in names if not n[0].isdigit())

    # Registration.

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under this name; None reserves the name."""
        self._check_name(name, self._parameters, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{typename(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                f"explicitly. To express '{name}' as a function of another Tensor, compute the value in "
                "the forward() method."
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter; `state_dict` has it if it is persistent."""
        self._check_name(name, self._buffers, "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or None "
                "required)"
            )
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(
            name
        )

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under this name."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name(name, self._modules, "module")
        self._modules[name] = module

    register_module = add_module

    def _check_name(self, name: str, registry: Registry | None, kind: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in (registry or ()):
            raise KeyError(f"attribute '{name}' already exists")

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before forward."""
        return add_hook(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward."""
        return add_hook(self._forward_hooks, hook, prepend, with_kwargs)

    # Walking the tree.

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, child) for each child, each child once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The children, each once."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module and all below it."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of this module and, with `recurse`, of all below it."""
        yield from self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) of this module and, with `recurse`, of all below it."""
        yield from self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for where, module in modules:
            for name, member in getattr(module, registry).items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{where}.{name}" if where else name), member

    def get_submodule(self, target: str) -> Module:
        """The module with this dotted name; "" is this one. Raises AttributeError."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with this dotted name. Raises AttributeError."""
        owner, _, name = target.rpartition(".")
        module = self.get_submodule(owner)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if not isinstance(found := getattr(module, name), Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    # Changing the whole tree.

    def apply(self: M, fn: Callable[[Module], object]) -> M:
        """Call fn on every module below this one, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Set training mode here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: M) -> M:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set whether gradients of the parameters are recorded."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Convert floating point parameters and buffers to a dtype; the only device is the CPU.

        Arguments as for `Tensor.to`. Raises TypeError for a dtype that is not floating point.
        """
        dtype = self._target_dtype(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )
        return self._apply(lambda t: t.to(dtype) if dtype is not None and t.is_floating_point() else t)

    @staticmethod
    def _target_dtype(*args: Any, **kwargs: Any) -> Any:
        """The dtype that `Tensor.to` with these arguments converts to; checks the device on the way."""
        from .._functions import empty

        probe = empty((0,))
        wanted = probe.to(*args, **kwargs).dtype
        named = "dtype" in kwargs or any(
            not isinstance(a, (str, bool)) and hasattr(a, "itemsize") for a in args
        )
        return wanted if named or any(isinstance(a, Tensor) for a in args) else None

    def float(self: M) -> M:
        """Convert floating point parameters and buffers to float32."""
        return self.to(dtype=_dtypes().float32)

    def double(self: M) -> M:
        """Convert floating point parameters and buffers to float64."""
        return self.to(dtype=_dtypes().float64)

    def half(self: M) -> M:
        """Convert floating point parameters and buffers to float16."""
        return self.to(dtype=_dtypes().float16)

    def bfloat16(self: M) -> M:
        """Convert floating point parameters and buffers to bfloat16."""
        return self.to(dtype=_dtypes().bfloat16)

    def cpu(self: M) -> M:
        """This module: everything is on the CPU."""
        return self

    def cuda(self: M, device: object = None) -> M:
        """Raises what `Tensor.cuda` raises: there is no CUDA here."""
        return self._apply(lambda t: t.cuda())

    def _apply(self: M, fn: Callable[[Tensor], Tensor]) -> M:
        """Replace the data of all parameters, gradients and buffers by fn of it; parameters stay objects."""
        for module in self.children():
            module._apply(fn)
        with no_grad():
            for parameter in self._parameters.values():
                if parameter is not None:
                    _replace_data(parameter, fn)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = fn(buffer)
        return self

    # State.

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Dotted name -> tensor for parameters and persistent buffers; they share memory with the module."""
        return collect_state(self, destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy parameters and buffers from a state dict.

        strict: missing or unexpected names are an error. assign: take the given tensors instead of copying.
        Raises RuntimeError listing everything that does not fit; what fits has been copied by then, as in
        PyTorch.
        """
        return load_state(self, state_dict, strict, assign)

    # Printing.

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What the repr shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        body = "\n  ".join(lines + children)
        return f"{self._get_name()}(\n  {body}\n)" if body else f"{self._get_name()}()"


def clear_grad(tensor: Tensor, set_to_none: bool) -> None:
    """Reset a tensor's gradient: to None, or to zeros in place."""
    if set_to_none:
        tensor.grad = None
        return
    if tensor.grad is None:
        return
    if tensor.grad.requires_grad:
        tensor.grad = tensor.grad.detach()
    with no_grad():
        tensor.grad.zero_()


def _replace_data(parameter: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    grad = parameter.grad
    data = parameter.data
    changed = fn(data)
    if changed is not data:
        parameter.grad = None
        parameter.data = changed
        parameter.grad = None if grad is None else fn(grad)


def _dtypes() -> Any:
    from vitrify.ir import dtypes

    return dtypes
