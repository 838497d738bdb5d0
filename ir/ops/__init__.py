"""The primitives, declared once each. `ops.ALL` maps names to declarations."""

from ..opdef import ALL as ALL
from .control import *
from .elementwise import *
from .movement import *
from .reduction import *
from .sorting import *
from .structure import *
from .tiles import *
