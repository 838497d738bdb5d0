"""Errors of the IR: what a malformed type, graph or text raises."""


class IRError(Exception):
    """Something handed to the IR is not valid; the message says what, where and what was expected."""


class IRTypeError(IRError):
    """Operands or attributes do not fit an operation's signature."""


class ParseError(IRError):
    """Textual IR that can't be read; the message has line, column and the offending line."""


class VerifyError(IRError):
    """A graph or kernel that breaks an invariant listed in the verifier's docstring."""
