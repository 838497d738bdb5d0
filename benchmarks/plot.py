"""A picture of the results: for each workload, how many times our time the best peer takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .report import OURS, Result, amount


def plot(path: Path, results: Sequence[Result], title: str) -> None:
    """Horizontal bars on a logarithmic axis, in the order of the table; both medians beside them.

    Raises ImportError, saying what to install, without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('a plot needs matplotlib: pip install "vitrify[viz]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [r for r in results if r.advantage]
    figure, axes = pyplot.subplots(figsize=(11, 1.4 + 0.27 * len(shown)), layout="constrained")
    values = [r.advantage or 1.0 for r in shown]
    colours = ["#2a7f62" if v >= 1 else "#c0504d" for v in values]
    places = range(len(shown))
    axes.barh(places, [v - 1 for v in values], left=1, color=colours, height=0.7)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *values) * 0.9, max(values) * 12)
    axes.margins(y=0.01)
    axes.set_yticks(places, [r.name for r in shown], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    for place, result, value in zip(places, shown, values, strict=True):
        axes.text(max(value, 1) * 1.03, place, f"{value:.2f}x  {_words(result)}", va="center", fontsize=7)
    axes.set_xlabel("best peer's time (or memory) over ours, logarithmic")
    axes.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _words(result: Result) -> str:
    peers = {name: t.median for name, t in result.timings.items() if not name.startswith(OURS)}
    best = min(peers, key=lambda name: peers[name])
    ours = amount(result.timings[OURS].median, result.unit)
    return f"{ours} against {amount(peers[best], result.unit)} ({best})"
