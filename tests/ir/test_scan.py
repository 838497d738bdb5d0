"""`scan`: types, text, verification, and what it computes."""

import numpy as np
import pytest
from vitrify.ir.errors import VerifyError
from vitrify.ir.interpreter import interpret
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph

from tests.support import assert_same_bits

SUMS = """\
graph(%start: f32[2], %xs: f32[3, 2], %w: f32[2]) {
  %0, %1, %2 = scan %start, %xs, %w {carries=1, length=3, previous=(0,), reverse=false, scanned=1} : f32[2], f32[3], f32[3, 2] @ "rnn.py":4 {
    graph step(%sum: f32[2], %x: f32[2], %w: f32[2]) {
      %0 = mul %x, %w : f32[2]
      %1 = add %sum, %0 : f32[2]
      %2 = reduce_sum %1 {axes=(0,), order="lanes"} : f32[]
      return %1, %2
    }
  }
  return %0, %1, %2
}
"""  # noqa: E501


def test_text_comes_back():
    graph = parse_graph(SUMS)
    verify_graph(graph)
    assert print_graph(graph) == SUMS


@pytest.mark.parametrize("reverse", [False, True])
def test_meaning_is_the_loop(reverse):
    graph = parse_graph(SUMS.replace("reverse=false", f"reverse={str(reverse).lower()}"))
    rng = np.random.default_rng(0)
    start, xs, w = (rng.normal(size=s).astype(np.float32) for s in ((2,), (3, 2), (2,)))
    total, given, before = start, np.empty(3, np.float32), np.empty((3, 2), np.float32)
    for t in (2, 1, 0) if reverse else (0, 1, 2):
        before[t] = total
        total = total + xs[t] * w
        given[t] = total[0] + total[1]
    outputs, _ = interpret(graph, [start, xs, w])
    for got, want in zip(outputs, (total, given, before), strict=True):
        assert_same_bits(got, want)


def test_a_size_known_at_run_time():
    text = SUMS.replace("%xs: f32[3, 2]", "%xs: f32[s0, 2]").replace("length=3", "length=s0")
    graph = parse_graph(text.replace(": f32[2], f32[3], f32[3, 2]", ": f32[2], f32[s0], f32[s0, 2]"))
    verify_graph(graph)
    outputs, _ = interpret(
        graph, [np.zeros(2, np.float32), np.ones((5, 2), np.float32), np.ones(2, np.float32)]
    )
    assert outputs[1].tolist() == [2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length=3", "length=4", r"scan of length 4 can't run along the first axis of f32\[3, 2\]"),
        ("length=3", "length=0", "scan needs at least one step"),
        ("carries=1", "carries=5", "not 5 carries and 1 scanned ones"),
        ("carries=1, ", "", "carries"),
        ("previous=(0,)", "previous=(1,)", "previous must name carries"),
        ("graph step(%sum: f32[2]", "graph step(%sum: f32[3]", r"its region takes \(f32\[3\], f32\[2\]"),
        ("return %1, %2", "return %2, %1", r"its region carries on \(f32\[\]\), expected \(f32\[2\]\)"),
        ("%0, %1, %2 = scan", "%0, %1, %2 = exp", "exp takes 1 operands, got 3"),
        (
            ": f32[2], f32[3], f32[3, 2]",
            ": f32[2], f32[3], f32[3, 3]",
            r"expected \(f32\[2\], f32\[3\], f32\[3, 2\]",
        ),
        ("%1 = add %sum, %0 : f32[2]", "%1 = add %sum, %2 : f32[2]", None),
    ],
)
def test_what_a_text_can_break(old, new, message):
    assert SUMS.count(old) == 1
    with pytest.raises(VerifyError if message else Exception, match=message or "not defined"):
        verify_graph(parse_graph(SUMS.replace(old, new)))
