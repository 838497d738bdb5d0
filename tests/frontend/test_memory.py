"""Memory shared with numpy, and dtypes that numpy does not have."""

from __future__ import annotations

import numpy as np
import pytest
import vitrify


def test_from_numpy_shares_memory() -> None:
    a = np.zeros((2, 3))
    x = vitrify.from_numpy(a.T)
    x[1, 1] = 5
    assert a[1, 1] == 5 and x.stride() == (1, 3)
    a[0, 2] = 7
    assert x[2, 0].item() == 7 and np.shares_memory(x.numpy(), a)
    assert vitrify.as_tensor(a).data_ptr() == a.ctypes.data
    assert not np.shares_memory(vitrify.tensor(a).numpy(), a)


def test_arrays_that_are_not_ours_to_write() -> None:
    with pytest.warns(UserWarning, match="not writable"):
        vitrify.from_numpy(np.frombuffer(b"1234", np.uint8))


def test_numpy_has_no_bfloat16() -> None:
    with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
        vitrify.ones(2, dtype=vitrify.bfloat16).numpy()
