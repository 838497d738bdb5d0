"""The primitives, declared once each. `ops.ALL` maps names to declarations."""

from ..opdef import ALL as ALL
from .control import *
from .elementwise import *
from .movement import *
from .reduction import *
from .structure import *
