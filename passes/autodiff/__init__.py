"""Reverse-mode differentiation: one rule per primitive, used by the eager tape, by traces and by
`joint_graph`.

`VJP` is the table of rules; `pull_back` runs one, cut down to the cotangents that are asked for; `saves`
tells what a tape node has to keep. `joint_graph` differentiates a whole graph and `partition` splits the
outcome by a minimum cut.
"""

from . import contraction, elementwise, movement, reduction, structure
from .derivative import Derivative, Saves, derivative, pull_back, saves
from .joint import JointGraph, joint_graph
from .partition import Partition, partition
from .rules import NO_GRADIENT, VJP, Rule, no_gradient, vjp

__all__ = [
    "NO_GRADIENT", "VJP", "Derivative", "JointGraph", "Partition", "Rule", "Saves", "contraction",
    "derivative", "elementwise", "joint_graph", "movement", "no_gradient", "partition", "pull_back",
    "reduction", "saves", "structure", "vjp",
]  # fmt: skip
