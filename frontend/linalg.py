"""`vitrify.linalg`: linear algebra."""

from ._functions.linalg import matmul as matmul
from ._functions.linalg import multi_dot as multi_dot

__all__ = ["matmul", "multi_dot"]
