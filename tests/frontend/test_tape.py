"""The tape: what is recorded, in which order the backward adds, what it frees, and what it refuses."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import vitrify


def leaf(*values: float) -> vitrify.Tensor:
    return vitrify.tensor(values, requires_grad=True)


def test_a_leaf_accumulates() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    first = x.grad
    (3 * x).sum().backward()
    assert x.grad is first and x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    (x * 1).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0] and first.tolist() == [5.0, 7.0]


def test_leaves_and_what_is_recorded() -> None:
    x, k = leaf(1.0), vitrify.tensor([1])
    y = x + 1
    assert x.is_leaf and x.grad_fn is None and not y.is_leaf and y.grad_fn.name() == "AddBackward0"
    assert vitrify.zeros(1).is_leaf and not (vitrify.zeros(1) + 1).requires_grad
    assert not (x > 0).requires_grad and not x.long().requires_grad and not (k + 1).requires_grad
    assert not y.detach().requires_grad and not x.data.requires_grad
    assert y.grad_fn.next_functions[0][0].variable is x and y.grad_fn.next_functions[1][0] is None


def test_grads_of_two_leaves_do_not_share_memory() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).backward(seed := vitrify.ones(2))
    x.grad.zero_()
    assert y.grad.tolist() == [1.0, 1.0] and seed.tolist() == [1.0, 1.0]


def test_a_grad_is_contiguous_and_its_own() -> None:
    x = vitrify.zeros(3, 2, requires_grad=True)
    x.t().sum().backward()
    assert x.grad.is_contiguous() and x.grad.tolist() == [[1.0, 1.0]] * 3
    x.grad.add_(1)
    z = vitrify.zeros(2, 3, requires_grad=True)
    (z.t() * vitrify.arange(6.0).reshape(3, 2)).sum().backward()
    assert z.grad.is_contiguous() and z.grad.tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


def test_contributions_are_added_from_the_last_op_to_the_first() -> None:
    # in float32 (1 + 1e8) - 1e8 is 0, but 1 + (1e8 - 1e8) is 1: the order is seen in the sum
    x = leaf(1.0)
    first, second, third = x * 1.0, x * 1e8, x * -1e8
    (first + second + third).sum().backward()
    assert x.grad.item() == np.float32(np.float32(-1e8) + np.float32(1e8)) + np.float32(1.0)
    x.grad = None
    first, second, third = x * -1e8, x * 1e8, x * 1.0
    (first + second + third).sum().backward()
    assert x.grad.item() == np.float32(np.float32(1.0) + np.float32(1e8)) - np.float32(1e8)


def test_grad_leaves_the_leaves_alone() -> None:
    x, y = leaf(2.0), leaf(3.0)
    gx, gy = vitrify.autograd.grad((x * x * y).sum(), (x, y))
    assert gx.item() == 12.0 and gy.item() == 4.0 and x.grad is None
    middle = x * 3
    (g,) = vitrify.autograd.grad((middle * middle).sum(), middle)
    assert g.item() == 12.0


def test_grad_errors() -> None:
    x, y = leaf(2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        vitrify.autograd.grad((x * 2).sum(), (x, y))
    assert vitrify.autograd.grad((x * 2).sum(), (x, y), allow_unused=True)[1] is None
    assert vitrify.autograd.grad((x * 2).sum(), (x, y), materialize_grads=True)[1].tolist() == [0.0]
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        vitrify.zeros(1).sum().backward()
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        leaf(1.0, 2.0).backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (leaf(1.0, 2.0) * 2).backward(vitrify.ones(3))
    with pytest.raises(RuntimeError, match="One of the differentiated Tensors does not require grad"):
        vitrify.autograd.grad((x * 2).sum(), vitrify.zeros(1))


def test_backward_to_some_inputs() -> None:
    x, y = leaf(2.0), leaf(3.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.item() == 3.0 and y.grad is None


def test_backward_twice() -> None:
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    z = x + 1  # saves nothing: may be repeated, as in PyTorch
    z.sum().backward()
    z.sum().backward()


def test_second_derivatives() -> None:
    x = leaf(3.0)
    (g,) = vitrify.autograd.grad((x**3).sum(), x, create_graph=True)
    assert g.item() == 27.0 and g.requires_grad
    (h,) = vitrify.autograd.grad(g.sum(), x, create_graph=True)
    (t,) = vitrify.autograd.grad(h.sum(), x)
    assert h.item() == 18.0 and t.item() == 6.0
    y = leaf(0.5)
    (y.exp() * y.sin()).sum().backward(create_graph=True)
    assert y.grad.requires_grad
    np.testing.assert_allclose(
        vitrify.autograd.grad(y.grad.sum(), y)[0].item(), 2 * np.exp(0.5) * np.cos(0.5), rtol=1e-6
    )


def test_grad_modes() -> None:
    x = leaf(1.0)
    with vitrify.no_grad():
        assert not (x * 2).requires_grad and not vitrify.is_grad_enabled()
        with vitrify.enable_grad():
            assert (x * 2).requires_grad
        with vitrify.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not vitrify.is_grad_enabled()
    with vitrify.inference_mode():
        assert not (x * 2).requires_grad and vitrify.is_inference_mode_enabled()
    assert (x * 2).requires_grad

    @vitrify.no_grad()
    def without() -> bool:
        return bool((x * 2).requires_grad)

    @vitrify.no_grad
    def bare() -> bool:
        return bool((x * 2).requires_grad)

    assert not without() and not bare() and vitrify.is_grad_enabled()
    vitrify.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    vitrify.set_grad_enabled(True)
    with pytest.raises(ValueError, match="inside"), vitrify.no_grad():
        raise ValueError("inside")
    assert vitrify.is_grad_enabled()


def test_grad_mode_is_per_thread() -> None:
    seen: list[bool] = []
    with vitrify.no_grad():
        thread = threading.Thread(target=lambda: seen.append(vitrify.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_requires_grad_of_non_leaves_and_integers() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        (x * 2).requires_grad_(False)
    with pytest.raises(RuntimeError, match="floating point"):
        vitrify.tensor([1]).requires_grad_()
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        x.numpy()
    assert x.requires_grad_(False) is x and not x.requires_grad


def test_assigning_grad() -> None:
    x = leaf(1.0, 2.0)
    x.grad = vitrify.ones(2)
    with pytest.raises(RuntimeError, match="different size"):
        x.grad = vitrify.ones(3)
    with pytest.raises(RuntimeError, match="different type"):
        x.grad = vitrify.ones(2, dtype=vitrify.float64)
    with pytest.raises(TypeError):
        x.grad = 1.0


def test_hooks() -> None:
    x = leaf(2.0)
    seen: list[Any] = []
    y = x * 3
    handle = y.register_hook(lambda g: seen.append(("y", g.item())))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(("x", g.item())))
    x.register_post_accumulate_grad_hook(lambda t: seen.append(("after", t.grad.item())))
    (y * 1).sum().backward()
    assert seen == [("y", 1.0), ("x", 30.0), ("after", 30.0)] and x.grad.item() == 30.0
    handle.remove()
    (x * 3 * 1).sum().backward()
    assert seen[3:] == [("x", 3.0), ("after", 33.0)]
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        vitrify.zeros(1).register_hook(print)


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.item() == 3.0 and y.retains_grad and x.grad.item() == 12.0
    z = x * 1
    z.sum().backward()
    assert z.grad is None


def test_a_retained_grad_adds_up() -> None:
    x = vitrify.ones(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    loss = (y**2).sum()
    loss.backward(retain_graph=True)
    first = y.grad
    loss.backward()
    assert first is not None and first.tolist() == [4.0] * 3
    assert y.grad is not None and y.grad.tolist() == [8.0] * 3


def test_functions_written_by_the_user() -> None:
    class Scale(vitrify.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.save_for_backward(x)
            ctx.factor = factor
            return x * x * factor

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            (x,) = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False)
            return 2 * x * ctx.factor * ct, None

    x = leaf(3.0)
    y = Scale.apply(x, 2.0)
    assert y.item() == 18.0 and y.grad_fn.name() == "ScaleBackward"
    y.sum().backward()
    assert x.grad.item() == 12.0
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
    (g,) = vitrify.autograd.grad(Scale.apply(x, 2.0).sum(), x, create_graph=True)
    assert vitrify.autograd.grad(g.sum(), x)[0].item() == 4.0
    assert not Scale.apply(vitrify.ones(1), 1.0).requires_grad


def test_functions_with_several_outputs_and_setup_context() -> None:
    class Split(vitrify.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * 2, x * 3, x > 0

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.mark_non_differentiable(output[2])
            ctx.save_for_backward(output[0])

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any, _: Any) -> Any:
            assert ctx.saved_tensors[0].tolist() == [2.0]
            return a * 2 + b * 3

    x = leaf(1.0)
    a, b, positive = Split.apply(x)
    assert not positive.requires_grad
    a.sum().backward()  # b's cotangent comes as zeros
    assert x.grad.item() == 2.0
    a, b, _ = Split.apply(x)
    (a + b).sum().backward()
    assert x.grad.item() == 7.0


def test_functions_that_return_the_wrong_gradients() -> None:
    class Wrong(vitrify.autograd.Function):
        result: Any = None

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return Wrong.result

    x = leaf(1.0, 2.0)
    for result, message in (
        ((vitrify.ones(2), vitrify.ones(2)), "incorrect number of gradients"),
        (vitrify.ones(3), "invalid gradient at index 0"), ("x", "expected Variable or None"),
    ):  # fmt: skip
        Wrong.result = result
        with pytest.raises(RuntimeError, match=message):
            Wrong.apply(x).sum().backward()


def test_gradcheck() -> None:
    x = vitrify.randn(3, dtype=vitrify.float64, requires_grad=True)
    y = vitrify.randn(2, 3, dtype=vitrify.float64, requires_grad=True)
    assert vitrify.autograd.gradcheck(lambda a, b: (a * b).sin(), (x, y))
    assert vitrify.autograd.gradgradcheck(lambda a, b: (a * b).sin(), (x, y))

    class Bad(vitrify.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct * 3

    with pytest.raises(vitrify.autograd.GradcheckError, match="Jacobian mismatch"):
        vitrify.autograd.gradcheck(Bad.apply, x)
    assert not vitrify.autograd.gradcheck(Bad.apply, x, raise_exception=False)


def test_a_tape_is_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0)
        y = (x.exp() * x).tanh()
        gone = weakref.ref(y.grad_fn)
        del y
        assert gone() is None
        y = x.exp().sum()
        y.backward()
        gone = weakref.ref(y)
        del y
        assert gone() is None
    finally:
        gc.enable()


def test_a_long_tape_is_freed_and_walked_without_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(30_000):
        y = -y
    y.sum().backward()
    assert x.grad.item() == 1.0
    del y


def test_a_leaf_that_is_gone_takes_no_gradient() -> None:
    x, y = leaf(1.0), leaf(2.0)
    z = (x * y).sum()
    del x
    z.backward()
    assert y.grad.item() == 1.0


def test_deepcopy_and_pickle() -> None:
    import copy
    import pickle

    x = leaf(1.0, 2.0)
    x.grad = vitrify.ones(2)
    twin = copy.deepcopy(x)
    twin.data[0] = 5
    assert x.tolist() == [1.0, 2.0] and twin.requires_grad and twin.grad.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)
    again = pickle.loads(pickle.dumps(vitrify.arange(3)))
    assert again.tolist() == [0, 1, 2]


@pytest.mark.parametrize("index", [1, -1, (1, 2), (slice(None), 0), (slice(0, 2), None, 1), (..., 0), None])
def test_an_index_is_one_node(index: Any) -> None:
    for _ in range(4):  # learned on the way
        x = vitrify.arange(12.0).reshape(3, 4).clone().requires_grad_()
        y = x[index]
        assert y.grad_fn.next_functions[0][0].variable is x and y._base is x
    x = vitrify.arange(12.0).reshape(3, 4).requires_grad_()
    (first,) = vitrify.autograd.grad((x[index] ** 3).sum(), x, create_graph=True)
    (second,) = vitrify.autograd.grad(first.sum(), x)
    mask = np.zeros((3, 4), np.float32)
    mask[index] = 1
    assert second.tolist() == (6 * x.detach().numpy() * mask).tolist()


def test_gradients_that_are_constants_may_be_written_to() -> None:
    """They were the memory of the one constant 0: everything that read it was wrong from then on."""

    class Shifted(vitrify.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: vitrify.Tensor) -> vitrify.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, ct: vitrify.Tensor) -> vitrify.Tensor:
            return ct.add_(3)

    for round_ in range(3):
        x = leaf(2.5)
        y = x * 1
        y.retain_grad()
        (gradient,) = vitrify.autograd.grad(vitrify.floor(x).sum(), x)
        gradient.add_(5)
        vitrify.floor(y).sum().backward()
        assert y.grad is not None and x.grad is not None
        for grad in (y.grad, x.grad):
            assert grad.tolist() == [0.0], round_
            grad.add_(7)
        (z := x * 1).register_hook(lambda ct: ct.add_(2))
        vitrify.sign(z).sum().backward()
        vitrify.trunc(Shifted.apply(x)).sum().backward()
        assert x.grad.tolist() == [12.0]
        assert vitrify.autograd.grad(vitrify.floor(x).sum(), x)[0].tolist() == [0.0]
        assert vitrify.zeros(2).tolist() == [0.0, 0.0] and vitrify.zeros(()).item() == 0.0


@pytest.mark.parametrize("shape", [(), (1, 1), (1, 1, 1)])
def test_a_leafs_gradient_is_its_own_memory(shape: tuple[int, ...]) -> None:
    for write in (vitrify.floor, lambda x: x.expand(0, *shape).clone(), lambda x: x.view(1).sign()):
        x = vitrify.full(shape, 2.5, requires_grad=True)
        for _ in range(3):
            write(x).sum().backward()
            (x * 2).sum().backward()  # adds in place
        assert x.grad is not None and x.grad.sum().item() == 6.0
        assert vitrify.zeros(()).item() == 0.0
