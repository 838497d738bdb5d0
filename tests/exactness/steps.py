"""The training steps of the benchmarks, on smaller batches: what the weights are after some of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import vitrify

from benchmarks.workloads.recurrent import LSTM_TASK
from benchmarks.workloads.training import CNN_TASK, GPT_TASK, LINREG_TASK, MLP_TASK, Task


def _with_batch(task: Task, batch: int) -> Task:
    def data() -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = task.data()
        return inputs[:batch].copy(), targets[:batch].copy()

    return dataclasses.replace(task, data=data)


STEPS: dict[str, Task] = {
    "linear regression": LINREG_TASK,
    "MLP": _with_batch(MLP_TASK, 7),
    "CNN": _with_batch(CNN_TASK, 3),
    "GPT": _with_batch(GPT_TASK, 1),
    "LSTM": _with_batch(LSTM_TASK, 3),
}


def after(task: Task, steps: int, *, compiled: bool) -> list[np.ndarray]:
    """All losses, then all weights, after so many steps from the same start."""
    model, step, arguments = task.start(vitrify)
    run = vitrify.compile(step, fullgraph=True) if compiled else step
    losses = [run(*arguments).item() for _ in range(steps)]
    return [np.array(losses, np.float32), *(p.detach().numpy().copy() for p in model.parameters())]
