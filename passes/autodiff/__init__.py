"""Reverse-mode differentiation: one rule per primitive, used by the eager tape, by traces and by
`joint_graph`.

`VJP` is the table of rules; `pull_back` runs one, cut down to the cotangents that are asked for; `saves`
tells what a tape node has to keep. `joint_graph` differentiates a whole graph and `partition` splits the
outcome by a minimum cut.
"""

from . import contraction, elementary, elementwise, movement, reduction, scan, split, structure
from .derivative import Derivative, Saves, derivative, derivative_of_moves, pull_back, saves
from .joint import JointGraph, joint_graph
from .many import MANY, ManyDerivative, Prepared, many_derivative, prepared
from .partition import Partition, partition
from .rules import NO_GRADIENT, VJP, Rule, no_gradient, vjp

__all__ = [
    "MANY", "NO_GRADIENT", "VJP", "Derivative", "JointGraph", "ManyDerivative", "Partition", "Prepared",
    "Rule", "Saves", "contraction", "derivative", "derivative_of_moves", "elementary", "elementwise",
    "joint_graph", "many_derivative", "movement", "no_gradient", "partition", "prepared", "pull_back",
    "reduction", "saves", "scan", "split", "structure", "vjp",
]  # fmt: skip
