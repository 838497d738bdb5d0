"""Calls with every argument replaced by something else in turn: the class of the error is PyTorch's, and what
PyTorch accepts is accepted, with the same dtypes and shapes. Eager, and in compiled functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import vitrify

#: Functions by the arguments of a good call.
_CALLS = {
    ("x",): """T.abs T.exp T.sqrt T.floor T.round T.isnan T.relu T.tanh T.log1p T.reciprocal T.nonzero T.t
        T.neg F.gelu F.relu F.silu T.zeros_like T.square T.argsort""",
    ("x", "y"): "T.eq T.lt T.maximum T.logical_and T.atan2 T.hypot T.isclose T.fmod",
    ("x", "1"): """T.sum T.mean T.amax T.argmax T.all T.prod T.cumsum T.softmax T.logsumexp T.nansum
        T.unsqueeze T.unbind x.sum x.mean x.argmin x.var""",
    ("x", "m"): "T.mm T.matmul",
    ("x", "a", "m"): "T.addmm",
    ("[x,y]", "0"): "T.cat T.stack",
    ("x", "0", "1"): "T.transpose T.flatten T.movedim",
    ("x", "1", "i"): "T.gather",
    ("x", "1", "i", "y"): "T.scatter T.scatter_add",
    ("x", "0", "i3"): "T.index_select",
    ("x", "k", "1"): "T.masked_fill",
    ("x", "2", "1"): "T.topk T.kthvalue T.chunk",
    ("x", "y", "b3"): "F.linear",
    ("e", "w1"): "F.conv1d",
    ("x", "(4,)", "b", "b"): "F.layer_norm",
    ("x", "i3"): "F.cross_entropy",
    ("i", "x"): "F.embedding",
    ("3", "4"): "T.eye",
    ("5",): "T.randperm",
    ("0", "5", "(2,3)"): "T.randint",
    ("u", "2"): "T.multinomial",
    ("(2,3)", "1.5"): "T.full",
}  # fmt: skip
_OTHERS = "None 'a' -1 5 1.5 True [] (0,1) ['a'] x i k b s T.float32 object()".split()
_OPTIONS = """
    dim=0 dim=9 axis=1 keepdim=True keepdims=True dtype=T.float64 dtype=float dtype='a' out=None bogus=1
""".split()
#: Where the class is another one, mostly because PyTorch's own is by chance (a Python function that asks what
#: is no tensor for its size), or because a check comes sooner or later than another.
_OTHERWISE = """
    F.gelu(x, out=None)
    T.prod(x, None)
    T.logsumexp(x, [])
    T.movedim(x, [], 1)
    T.movedim(x, (0,1), 1)
    T.movedim(x, 0, [])
    T.movedim(x, 0, (0,1))
    T.scatter(x, 1, i, b)
    T.scatter_add(x, 1, i, b)
    T.index_select(s, 0, i3)
    T.topk(k, 2, 1)
    T.kthvalue(k, 2, 1)
    F.linear(x, y, b3, out=None)
    F.conv1d(k, w1)
    F.cross_entropy(s, i3)
    T.eye(3, None)
"""


def _texts() -> Iterator[str]:
    for args, names in _CALLS.items():
        for name in names.split():
            head, given = (name, args) if name[1] == "." and name[0] in "TF" else (name, args[1:])
            yield f"{head}({', '.join(given)})"
            for place in range(len(given)):
                for other in _OTHERS:
                    yield f"{head}({', '.join((*given[:place], other, *given[place + 1 :]))})"
                yield f"{head}({', '.join(given[:place])})"
            for option in _OPTIONS:
                yield f"{head}({', '.join((*given, option))})"


def _names(lib: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return lib.tensor(rng.standard_normal(shape).astype(np.float32))

    made = {"T": lib, "F": lib.nn.functional, "x": draw(3, 4), "y": draw(3, 4), "b": draw(4), "b3": draw(3)}
    made |= {"m": draw(4, 3), "a": draw(3, 3), "e": draw(2, 3, 6), "w1": draw(5, 3, 2), "s": lib.tensor(2.0)}
    made |= {"i": lib.tensor(rng.integers(0, 3, (3, 4))), "i3": lib.tensor([0, 2, 1])}
    return made | {"k": made["x"] > 0, "u": made["x"].sigmoid()}


def _outcome(text: str, names: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _shown(eval(text, names))
    except Exception as error:
        return type(error).__name__


def _shown(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_shown(v) for v in value]
    if isinstance(value, (torch.Tensor, vitrify.Tensor)):
        return str(value.dtype).split(".")[-1], tuple(value.shape)
    return type(value).__name__


def test_every_argument_replaced() -> None:
    theirs, ours = _names(torch), _names(vitrify)
    expected = set(filter(None, map(str.strip, _OTHERWISE.split("\n"))))
    differing = {t for t in _texts() if _outcome(t, theirs) != _outcome(t, ours)}
    assert differing == expected


_COMPILED = (
    "T.gather(x, 1, i + 9)", "T.scatter(x, 1, i + 9, y)", "x[i3 + 9]", "F.embedding(i + 9, x)",
    "T.cat([x, b])",
    "T.mm(x, y)", "x.sum(9)", "x.reshape(5, 5)", "T.exp('a')", "x + 'a'", "x.mean(dtype='a')", "float(x)",
    "F.linear(x, y, b)", "F.cross_entropy(x, i3 + 9)", "T.full((2,), 'a')", "x.norm('q')",
    "x.requires_grad_('a')",
    "T.nn.Linear(4, 2)('a')", "int(x)", "T.randperm(-1)", "x.sum(axis=1, keepdims=True)", "i.mean()",
)  # fmt: skip


@pytest.mark.parametrize("text", _COMPILED)
def test_compiled_functions_raise_what_pytorch_does(text: str) -> None:
    theirs, ours = _names(torch), _names(vitrify)
    f = eval(f"lambda: {text}", ours)
    compiled = vitrify.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            try:
                found = _shown(compiled())
            except Exception as error:
                found = type(error).__name__
            assert found == _outcome(text, theirs)


def test_results_are_written_to_out() -> None:
    for lib in (torch, vitrify):
        x, out = lib.arange(6.0).reshape(2, 3), lib.zeros(2, 3, dtype=lib.float64)
        assert lib.add(x, 1, out=out) is out and out.tolist() == [[1, 2, 3], [4, 5, 6]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert lib.sum(x, 0, out=out) is out and out.tolist() == [3, 5, 7]
        with pytest.raises(RuntimeError, match="can't be cast"):
            lib.exp(x, out=lib.zeros(2, 3, dtype=lib.int64))
        with pytest.raises(RuntimeError, match="automatic differentiation"):
            lib.exp(x.requires_grad_(), out=out)


def test_other_spellings() -> None:
    for lib in (torch, vitrify):
        x = lib.arange(6.0).reshape(2, 3)
        assert lib.sum(x, axis=lib.tensor(1), keepdims=True).tolist() == [[3], [12]]
        assert lib.sum(x, np.int64(0), dtype=float).dtype is lib.float64 and x.to(int).dtype is lib.int64
        assert lib.add(x1=x, x2=x).tolist() == (2 * x).tolist()
        assert lib.zeros(2, layout=lib.strided, pin_memory=False).layout is lib.strided
        assert lib.kron(lib.ones(2), x).shape == (2, 6)
        assert lib.diff(x, prepend=lib.zeros(2, 1)).tolist() == [[0, 1, 1], [3, 1, 1]]
