"""What stops a capture."""


class CaptureError(RuntimeError):
    """A function compiled with fullgraph=True can't be one graph; the message names file, line and reason."""
