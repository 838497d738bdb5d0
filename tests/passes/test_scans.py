"""Simplification of scans, by text before and after."""

from vitrify.ir.parser import parse_graph
from vitrify.passes.pipeline import optimize
from vitrify.passes.scans import tidy_scans

from tests.support import assert_same_meaning, check_pass


def test_what_does_not_change_is_computed_before_the_loop():
    check_pass(tidy_scans, """
        graph(%a: f32[2], %xs: f32[3, 2], %w: f32[2]) {
          %0 = scan %a, %xs, %w {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[2] {
            graph step(%c: f32[2], %x: f32[2], %w: f32[2]) {
              %0 = exp %w : f32[2]
              %1 = mul %0, %x : f32[2]
              %2 = add %c, %1 : f32[2]
              return %2
            }
          }
          return %0
        }""", """
        graph(%a: f32[2], %xs: f32[3, 2], %w: f32[2]) {
          %0 = exp %w : f32[2]
          %1 = scan %a, %xs, %0 {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[2] {
            graph step(%c: f32[2], %x: f32[2], %9: f32[2]) {
              %0 = mul %9, %x : f32[2]
              %1 = add %c, %0 : f32[2]
              return %1
            }
          }
          return %1
        }""")  # fmt: skip


def test_carries_results_and_operands_that_nobody_needs_go():
    check_pass(tidy_scans, """
        graph(%a: f32[2], %b: f32[2], %xs: f32[3, 2], %zs: f32[3]) {
          %0, %1, %2, %3 = scan %a, %b, %xs, %zs
              {carries=2, length=3, previous=(1,), reverse=true, scanned=2}
              : f32[2], f32[2], f32[3], f32[3, 2] {
            graph step(%c: f32[2], %d: f32[2], %x: f32[2], %z: f32[]) {
              %0 = add %c, %x : f32[2]
              %1 = sub %d, %x : f32[2]
              %2 = exp %z : f32[]
              return %0, %1, %2
            }
          }
          return %0
        }""", """
        graph(%a: f32[2], %b: f32[2], %xs: f32[3, 2], %zs: f32[3]) {
          %0 = scan %a, %xs {carries=1, length=3, previous=(), reverse=true, scanned=1} : f32[2] {
            graph step(%c: f32[2], %x: f32[2]) {
              %0 = add %c, %x : f32[2]
              return %0
            }
          }
          return %0
        }""")  # fmt: skip


def test_what_is_known_without_the_loop_is_not_given_out():
    check_pass(tidy_scans, """
        graph(%a: f32[2], %k: f32[2], %xs: f32[3, 2], %w: f32[2]) {
          %0, %1, %2, %3, %4, %5, %6 = scan %a, %k, %xs, %w
              {carries=2, length=3, previous=(), reverse=false, scanned=1}
              : f32[2], f32[2], f32[3, 2], f32[3, 2], f32[3, 2], f32[3, 2], f32[3, 2] {
            graph step(%c: f32[2], %k: f32[2], %x: f32[2], %w: f32[2]) {
              %0 = add %c, %x : f32[2]
              %1 = mul %0, %k : f32[2]
              return %1, %k, %x, %c, %w, %0, %0
            }
          }
          return %0, %1, %2, %3, %4, %5, %6
        }""", """
        graph(%a: f32[2], %k: f32[2], %xs: f32[3, 2], %w: f32[2]) {
          %0, %1, %2 = scan %a, %xs, %k
              {carries=1, length=3, previous=(0,), reverse=false, scanned=1}
              : f32[2], f32[3, 2], f32[3, 2] {
            graph step(%c: f32[2], %x: f32[2], %k: f32[2]) {
              %0 = add %c, %x : f32[2]
              %1 = mul %0, %k : f32[2]
              return %1, %0
            }
          }
          %3 = reshape %w {shape=(1, 2)} : f32[1, 2]
          %4 = expand %3 {shape=(3, 2)} : f32[3, 2]
          return %0, %k, %xs, %2, %4, %1, %1
        }""")  # fmt: skip


def test_a_tidy_scan_is_left_alone():
    graph = parse_graph("""
        graph(%a: f32[2], %xs: f32[3, 2], %w: f32[2]) {
          %0, %1 = scan %a, %xs, %w
              {carries=1, length=3, previous=(), reverse=false, scanned=1} : f32[2], f32[3] {
            graph step(%c: f32[2], %x: f32[2], %w: f32[2]) {
              %0 = mul %w, %x : f32[2]
              %1 = add %c, %0 : f32[2]
              %2 = reduce_sum %1 {axes=(0,), order="lanes"} : f32[]
              return %1, %2
            }
          }
          return %1
        }""")
    assert tidy_scans(graph) is graph


def test_checks_in_a_body_stay_and_bodies_are_optimized():
    graph = parse_graph("""
        graph(%a: f32[2], %xs: f32[3, 2], %at: i64[3]) {
          %0 = scan %a, %xs, %at {carries=1, length=3, previous=(), reverse=false, scanned=2} : f32[2] {
            graph step(%c: f32[2], %x: f32[2], %i: i64[]) {
              %0 = neg %x : f32[2]
              %1 = neg %0 : f32[2]
              %2 = add %c, %1 : f32[2]
              %3 = gather %x, %i {axes=(0,)} : f32[]
              return %2
            }
          }
          return
        }""")
    made = optimize(graph, verify=True)
    (scan,) = made.operations
    assert [op.opdef.name for op in scan.regions[0].operations] == ["gather"]
    assert_same_meaning(graph, made)
