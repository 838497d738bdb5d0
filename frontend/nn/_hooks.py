"""Forward hooks of a `Module`: functions called before and after `forward`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitrify.tracer.calls import follow

from .._tape import RemovableHandle
from ._registry import Registry


def add_hook(hooks: Registry, hook: Callable[..., Any], prepend: bool, with_kwargs: bool) -> RemovableHandle:
    """Register a hook, last or (`prepend`) first."""
    handle = RemovableHandle(hooks, (hook, with_kwargs))
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """module.forward(*args, **kwargs) between its hooks.

    A pre-hook may return new positional arguments (or, registered with kwargs, a pair of both kinds); a hook
    may return a new result. Raises RuntimeError if a pre-hook with kwargs returns something else.
    """
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        args, kwargs = _after_pre_hook(module, hook, with_kwargs, args, kwargs)
    result = follow(module.forward)(*args, **kwargs)
    for hook, with_kwargs in list(module._forward_hooks.values()):
        changed = (
            follow(hook)(module, args, kwargs, result) if with_kwargs else follow(hook)(module, args, result)
        )
        if changed is not None:
            result = changed
    return result


def _after_pre_hook(
    module: Any, hook: Callable[..., Any], with_kwargs: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not with_kwargs:
        changed = follow(hook)(module, args)
        if changed is None:
            return args, kwargs
        return (changed if isinstance(changed, tuple) else (changed,)), kwargs
    changed = follow(hook)(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if isinstance(changed, tuple) and len(changed) == 2:
        return changed
    raise RuntimeError(
        f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}."
    )
