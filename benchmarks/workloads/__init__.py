"""The workloads, each a set of contestants doing the same work."""

from .calls import CALLS
from .convolutions import CONVOLUTIONS
from .inference import INFERENCE
from .pointwise import POINTWISE
from .products import PRODUCTS
from .recurrent import RECURRENT
from .rows import ROWS
from .startup import STARTUP
from .training import TRAINING

WORKLOADS = (*POINTWISE, *ROWS, *PRODUCTS, *CONVOLUTIONS, *TRAINING, *RECURRENT, *INFERENCE, *CALLS, *STARTUP)
