"""The workloads, each a set of contestants doing the same work."""

from .calls import CALL_OVERHEAD, EAGER_ADD
from .startup import IMPORT, STARTUP
from .training import CNN_64, MLP_64, MLP_512

WORKLOADS = (MLP_64, MLP_512, CNN_64, CALL_OVERHEAD, EAGER_ADD, *STARTUP, IMPORT)
