"""A training step of a recurrent classifier: embedding, LSTM, and a linear layer on the last state.

JAX runs the LSTM as a scan and written out step by step.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .. import models
from ..contestants import contestants
from . import jax_models
from .training import ADAM, Task, cross_entropy, jax_step, variants
from .workload import Workload

Sizes = models.LSTMSizes


def _texts(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, Sizes.vocabulary, (batch, Sizes.steps))
    return tokens, rng.integers(0, Sizes.classes, batch)


def _flops(batch: int) -> float:
    """Products of the LSTM, forward and for both gradients, and of the linear layer."""
    step = 2 * Sizes.width * 4 * Sizes.width
    return 6.0 * batch * (Sizes.steps * step + Sizes.width * Sizes.classes)


LSTM_TASK = Task(models.lstm, partial(_texts, 32), cross_entropy, ADAM)
_JAX = {
    f"jax_jit, {name}": jax_step(
        LSTM_TASK, partial(jax_models.lstm, unrolled=unrolled), jax_models.cross_entropy
    )
    for name, unrolled in (("scan", False), ("written out", True))
}
LSTM_32 = Workload(
    "step: LSTM, 10,000 words, 128 wide, Adam, batch 32 x 32",
    contestants(LSTM_TASK.program, variants(), eager=True, **_JAX),
    _flops(32),
    sample_s=0.05,
)
RECURRENT = (LSTM_32,)
