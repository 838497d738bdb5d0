"""The examples of docs/ir.md are what the printers print, and valid."""

import re
from pathlib import Path

import pytest
from vitrify.ir.kernel_text import parse_kernel, print_kernel
from vitrify.ir.kernel_verifier import verify_kernel
from vitrify.ir.parser import parse_graph
from vitrify.ir.plan_text import parse_plan, print_plan
from vitrify.ir.plan_verifier import verify_plan
from vitrify.ir.printer import print_graph
from vitrify.ir.verifier import verify_graph

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(graph|kernel|plan)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall((DOCS / "ir.md").read_text())
TOOLS = {
    "graph": (parse_graph, verify_graph, print_graph),
    "kernel": (parse_kernel, verify_kernel, print_kernel),
    "plan": (parse_plan, verify_plan, print_plan),
}


def test_the_page_has_examples_of_each_kind():
    assert {kind for kind, _ in BLOCKS} == set(TOOLS)


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[f"{kind}{i}" for i, (kind, _) in enumerate(BLOCKS)])
def test_examples_parse_verify_and_print_back(kind, text):
    parse, verify, show = TOOLS[kind]
    parsed = parse(text)
    verify(parsed)
    assert show(parsed) == text
