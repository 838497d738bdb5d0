"""Reading text piece by piece, for the parsers of graphs, kernels and plans.

A `Scanner` stands at a place in the text and takes tokens from there; blanks and `#` comments between tokens
are skipped. Every error it raises names line and column and shows the line.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from .errors import ParseError
from .expr import Dim, ExprError, read_expr

_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_VALUE = re.compile(r"%([\w.]+)")
_INTEGER = re.compile(r"-?\d+")
_WORD = re.compile(r"[A-Za-z_][\w.]*")


class Scanner:
    """A place in a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skip()

    def skip(self) -> None:
        """Move over blanks and comments."""
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raise ParseError for the present place, or for `at`."""
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at) + 1
        shown = self.text[start:].partition("\n")[0]
        raise ParseError(f"line {line}, column {at - start + 1}: {message}\n{shown}\n{' ' * (at - start)}^")

    def found(self) -> str:
        """What stands here, in words, for a message."""
        rest = self.text[self.at : self.at + 20].split()
        return repr(rest[0]) if rest else "the end of the text"

    def accept(self, token: str) -> bool:
        """Take the token if it comes next; a word only if it does not go on."""
        end = self.at + len(token)
        if not self.text.startswith(token, self.at):
            return False
        if token[-1].isalnum() and re.match(r"[\w.]", self.text[end : end + 1]):
            return False
        self.at = end
        self.skip()
        return True

    def expect(self, token: str) -> None:
        """Take the token. Raises ParseError if something else comes."""
        if not self.accept(token):
            self.fail(f"expected {token!r}, found {self.found()}")

    def peek(self, token: str) -> bool:
        """True if the text goes on with these characters."""
        return self.text.startswith(token, self.at)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take what the pattern matches here, if it does."""
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
            self.skip()
        return found

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        """Take what the pattern matches. Raises ParseError, saying that `what` was expected."""
        found = self.match(pattern)
        if found is None:
            self.fail(f"expected {what}, found {self.found()}")
        return found[0]

    def word(self, what: str = "a name") -> str:
        """Take an identifier (letters, digits, dots)."""
        return self.take(_WORD, what)

    def value(self) -> str:
        """Take `%name` and give the name."""
        return self.take(_VALUE, "a value (%name)")[1:]

    def integer(self) -> int:
        return int(self.take(_INTEGER, "an integer"))

    def string(self) -> str:
        at = self.at
        try:
            return str(json.loads(self.take(_STRING, "a string")))
        except ValueError:
            self.fail("this is not a valid string", at)

    def name(self) -> str:
        """A name as `print_name` writes it: a word, or a string if it isn't one."""
        return self.string() if self.peek('"') else self.word()

    def expression(self) -> Dim:
        """Take the longest expression that starts here."""
        try:
            value, self.at = read_expr(self.text, self.at)
        except ExprError as error:
            self.fail(error.message, error.at)
        self.skip()
        return value

    def expressions(self, close: str) -> tuple[Dim, ...]:
        """Take expressions separated by commas, and the closing bracket after them."""
        items: list[Dim] = []
        while not self.accept(close):
            if items:
                self.expect(",")
            items.append(self.expression())
        return tuple(items)


def print_name(name: str) -> str:
    """The name as it is if it is a word, else as a string."""
    return name if _WORD.fullmatch(name) else json.dumps(name, ensure_ascii=False)
