"""What legalization makes of graphs, by text."""

from __future__ import annotations

import textwrap

from vitrify.codegen.walk import nested
from vitrify.ir.kernel import Contract
from vitrify.ir.parser import parse_graph
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph
from vitrify.passes.lower.legalize import legalize

from tests.passes.lower.lowering import check_lowered
from tests.support import assert_same_meaning


def check_legalized(before: str, after: str, kept: int = 0, same_shapes: bool = True) -> None:
    """The graph becomes this one, of the same meaning, with so many values kept in memory."""
    graph = parse_graph(textwrap.dedent(before))
    untouched = print_graph(graph)
    legal = legalize(graph)
    verify_graph(legal.graph)
    assert print_graph(graph) == untouched, "the argument was changed"
    assert print_graph(legal.graph) == print_graph(parse_graph(textwrap.dedent(after)))
    assert len(legal.kept) == kept
    if same_shapes:
        assert_same_meaning(graph, legal.graph)


def test_padding_of_a_contraction_becomes_a_pad() -> None:
    check_legalized(
        """
        graph g(%x: f32[2, 5], %w: f32[3]) {
          %0 = contract %x, %w {spec=<[n, o + k - 1] * [k] -> [n, o] over k where o = 6>} : f32[2, 6]
          return %0
        }""",
        """
        graph g(%x: f32[2, 5], %w: f32[3]) {
          %0 = constant {value=f32(0.0)} : f32[]
          %1 = pad %x, %0 {hi=(0, 2), interior=(0, 0), lo=(0, 1)} : f32[2, 8]
          %2 = contract %1, %w {spec=<[n, k + o] * [k] -> [n, o] over k inside 0 <= k + o - 1 < 5 where k = 3, n = 2, o = 6>} : f32[2, 6]
          return %2
        }""",  # noqa: E501
        kept=1,
    )


def test_a_contraction_cuts_its_result_as_the_reshape_after_it() -> None:
    check_legalized(
        """
        graph g(%x: f32[6, 5], %w: f32[5, 7]) {
          %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[6, 7]
          %1 = reshape %0 {shape=(2, 1, 3, 7)} : f32[2, 1, 3, 7]
          %2 = exp %1 : f32[2, 1, 3, 7]
          return %2
        }""",
        """
        graph g(%x: f32[6, 5], %w: f32[5, 7]) {
          %0 = contract %x, %w {spec=<[3*m_0 + m_2, k] * [k, n_3] -> [m_0, m_1, m_2, n_3] over k where k = 5, \
m_0 = 2, m_1 = 1, m_2 = 3, n_3 = 7>} : f32[2, 1, 3, 7]
          %1 = exp %0 : f32[2, 1, 3, 7]
          return %1
        }""",  # noqa: E501
    )


def test_columns_that_are_cut_remain_one_run() -> None:
    """The weight of a layer is read along its rows, though its result is cut into images."""
    plan = check_lowered("""
        graph g(%x: f32[20, 5], %w: f32[5, 36]) {
          %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[20, 36]
          %1 = reshape %0 {shape=(20, 4, 3, 3)} : f32[20, 4, 3, 3]
          return %1
        }""")
    (kernel,) = plan.kernels
    (product,) = (s for s in nested(kernel.body) if isinstance(s, Contract))
    assert (product.m.extent, product.n.extent) == (20, 36)


def test_a_reshape_that_joins_axes_stays() -> None:
    text = """
        graph g(%x: f32[6, 5], %w: f32[5, 8]) {
          %0 = contract %x, %w {spec=<[m, k] * [k, n] -> [m, n] over k where k = 5, m = 6, n = 8>} : f32[6, 8]
          %1 = reshape %0 {shape=(3, 16)} : f32[3, 16]
          %2 = exp %1 : f32[3, 16]
          return %2
        }"""
    check_legalized(text, text)


def test_an_operand_that_is_not_in_memory_is_copied_once() -> None:
    check_legalized(
        """
        graph g(%x: f32[2, 2, 4], %w: f32[8, 3], %v: f32[8, 3]) {
          %0 = permute %x {perm=(1, 0, 2)} : f32[2, 2, 4]
          %1 = reshape %0 {shape=(2, 8)} : f32[2, 8]
          %2 = contract %1, %w {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[2, 3]
          %3 = contract %1, %v {spec=<[m, k] * [k, n] -> [m, n] over k>} : f32[2, 3]
          return %2, %3
        }""",
        """
        graph g(%x: f32[2, 2, 4], %w: f32[8, 3], %v: f32[8, 3]) {
          %0 = permute %x {perm=(1, 0, 2)} : f32[2, 2, 4]
          %1 = reshape %0 {shape=(2, 8)} : f32[2, 8]
          %2 = permute %1 {perm=(0, 1)} : f32[2, 8]
          %3 = contract %2, %w {spec=<[m, k] * [k, n] -> [m, n] over k where k = 8, m = 2, n = 3>} : f32[2, 3]
          %4 = contract %2, %v {spec=<[m, k] * [k, n] -> [m, n] over k where k = 8, m = 2, n = 3>} : f32[2, 3]
          return %3, %4
        }""",
        kept=1,
    )


def test_parts_are_put_together_in_memory_where_that_is_read() -> None:
    text = """
        graph g(%x: f32[2, 4], %y: f32[2, 4], %w: f32[8, 3]) {
          %0 = concat %x, %y {axis=1} : f32[2, 8]
          %1 = contract %0, %w {spec=<[m, k] * [k, n] -> [m, n] over k where k = 8, m = 2, n = 3>} : f32[2, 3]
          return %1, %0
        }"""
    check_legalized(text, text, kept=1)


def test_a_reduction_over_no_axes_gets_one() -> None:
    check_legalized(
        """
        graph g(%x: f32[3]) {
          %0 = reduce_sum %x {axes=(), order="lanes"} : f32[3]
          return %0
        }""",
        """
        graph g(%x: f32[3]) {
          %0 = reshape %x {shape=(3, 1)} : f32[3, 1]
          %1 = reduce_sum %0 {axes=(1,), order="lanes"} : f32[3]
          return %1
        }""",
    )


def test_each_root_has_memory_of_its_own() -> None:
    check_legalized(
        """
        graph g(%x: f32[3], %y: f32[3]) {
          %0 = exp %x : f32[3]
          update %y = %0
          return %0, %x
        }""",
        """
        graph g(%x: f32[3], %y: f32[3]) {
          %0 = exp %x : f32[3]
          %1 = permute %x {perm=(0,)} : f32[3]
          %2 = permute %0 {perm=(0,)} : f32[3]
          update %y = %2
          return %0, %1
        }""",
        kept=2,
    )


def test_what_is_overwritten_is_copied_if_it_lives_on() -> None:
    before = """
        graph g(%x: f32[4], %v: f32[2]) {
          %0 = exp %x : f32[4]
          %1 = update_slice %0, %v {starts=(0,), steps=(1,)} : f32[4]
          %2 = update_slice %0, %v {starts=(2,), steps=(1,)} : f32[4]
          %3 = update_slice %1, %v {starts=(1,), steps=(1,)} : f32[4]
          return %2, %3
        }"""
    graph = parse_graph(textwrap.dedent(before))
    legal = legalize(graph)
    assert sum(op.opdef.name == "permute" for op in legal.graph.operations) == 2
    assert len(legal.taken_over) == 3
    assert [v.type for v in legal.graph.outputs] == [v.type for v in graph.outputs]
    assert_same_meaning(graph, legal.graph)


def test_a_transposed_operand_beside_others_is_transposed_in_memory() -> None:
    plan = check_lowered(
        """
        graph g(%x: f32[64, 80], %y: f32[80, 64]) {
          %0 = permute %y {perm=(1, 0)} : f32[64, 80]
          %1 = add %x, %0 : f32[64, 80]
          %2 = mul %1, %0 : f32[64, 80]
          return %2
        }""",
        calls=2,
    )
    assert plan.kernels[0].name.startswith("permute")


def test_transposed_operands_among_themselves_are_not() -> None:
    check_lowered(
        """
        graph g(%x: f32[80, 64], %y: f32[80, 64]) {
          %0 = permute %y {perm=(1, 0)} : f32[64, 80]
          %1 = permute %x {perm=(1, 0)} : f32[64, 80]
          %2 = add %0, %1 : f32[64, 80]
          return %2
        }""",
        calls=1,
    )
