"""The primitives, declared once each. `ops.ALL` maps names to declarations."""

from ..opdef import ALL as ALL
from .elementwise import *  # noqa: F403
from .movement import *  # noqa: F403
from .reduction import *  # noqa: F403
from .structure import *  # noqa: F403
