"""Random numbers: reproducible, of the right distribution, and the state that moves on."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify
from vitrify.ir.ops import numeric


def test_seeds() -> None:
    vitrify.manual_seed(7)
    first = [vitrify.rand(5), vitrify.randn(3, 2), vitrify.randint(0, 100, (4,)), vitrify.randperm(6)]
    vitrify.manual_seed(7)
    again = [vitrify.rand(5), vitrify.randn(3, 2), vitrify.randint(0, 100, (4,)), vitrify.randperm(6)]
    assert all(vitrify.equal(a, b) for a, b in zip(first, again, strict=True))
    assert vitrify.initial_seed() == 7
    vitrify.manual_seed(8)
    assert not vitrify.equal(vitrify.rand(5), first[0])
    with pytest.raises(RuntimeError, match="Overflow"):
        vitrify.manual_seed(2**64)
    vitrify.manual_seed(2**64 - 1)
    assert vitrify.initial_seed() == 2**64 - 1


def test_draws_follow_each_other_without_overlap() -> None:
    g = vitrify.Generator().manual_seed(3)
    words = numeric.philox(np.full(12, 3), np.zeros(12, np.int64), np.arange(12)).view(np.uint32)
    expected = ((words >> 8) * np.float32(2.0**-24)).astype(np.float32)
    first, second = vitrify.rand(5, generator=g), vitrify.rand(4, generator=g)
    assert first.tolist() == expected[:5].tolist() and second.tolist() == expected[8:12].tolist()
    assert g.get_state().tolist() == [3, 3]


def test_generators_are_apart_and_can_be_put_back() -> None:
    g, h = vitrify.Generator().manual_seed(1), vitrify.Generator().manual_seed(1)
    vitrify.manual_seed(5)
    default = vitrify.get_rng_state()
    assert vitrify.equal(vitrify.rand(3, generator=g), vitrify.rand(3, generator=h))
    assert vitrify.equal(vitrify.get_rng_state(), default)
    state = g.get_state()
    a = vitrify.rand(3, generator=g)
    g.set_state(state)
    assert vitrify.equal(a, vitrify.rand(3, generator=g))
    assert g.seed() == g.initial_seed()


def test_distributions() -> None:
    vitrify.manual_seed(0)
    for dtype in (vitrify.float32, vitrify.float64):
        u = vitrify.rand(20_000, dtype=dtype)
        assert u.dtype is dtype and 0 <= u.min().item() and u.max().item() < 1
        assert abs(u.mean().item() - 0.5) < 0.01 and abs(u.var().item() - 1 / 12) < 0.003
        n = vitrify.randn(20_000, dtype=dtype)
        assert abs(n.mean().item()) < 0.03 and abs(n.std().item() - 1) < 0.03 and 3 < n.abs().max().item() < 6
    k = vitrify.randint(-2, 3, (5000,))
    assert set(k.tolist()) == {-2, -1, 0, 1, 2} and abs(k.double().mean().item()) < 0.1
    assert sorted(vitrify.randperm(1000).tolist()) == list(range(1000))
    assert abs(vitrify.bernoulli(vitrify.full((5000,), 0.3)).mean().item() - 0.3) < 0.03
    assert abs(vitrify.normal(2.0, 0.1, (2000,)).mean().item() - 2) < 0.01
    assert vitrify.normal(vitrify.tensor([0.0, 100.0]), 1e-3).round().tolist() == [0.0, 100.0]


def test_multinomial() -> None:
    vitrify.manual_seed(0)
    weights = vitrify.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])
    drawn = vitrify.multinomial(weights, 2000, replacement=True)
    assert drawn.shape == (2, 2000) and set(drawn[1].tolist()) == {0}
    assert abs((drawn[0] == 2).double().mean().item() - 0.75) < 0.04
    assert sorted(vitrify.multinomial(weights[0], 2).tolist()) == [1, 2]
    with pytest.raises(RuntimeError, match="not enough non-negative category"):
        vitrify.multinomial(weights[0], 3)
    with pytest.raises(RuntimeError, match="element < 0"):
        vitrify.multinomial(vitrify.tensor([-1.0, 1.0]), 1)


def test_empty_and_bad_draws() -> None:
    assert vitrify.rand(0, 3).shape == (0, 3) and vitrify.randperm(0).tolist() == []
    with pytest.raises(RuntimeError, match="expects 'from' to be less than 'to'"):
        vitrify.randint(3, 3, (1,))
    with pytest.raises(TypeError):
        vitrify.normal(0.0, 1.0)
    with pytest.raises(RuntimeError, match="std >= 0.0"):
        vitrify.normal(0.0, -1.0, (2,))


def test_randint_takes_its_size_by_name() -> None:
    assert vitrify.randint(5, size=(3,)).shape == (3,)
    drawn = vitrify.randint(2, high=5, size=(1000,))
    assert drawn.min() == 2 and drawn.max() == 4
