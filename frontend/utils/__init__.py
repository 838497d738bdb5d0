"""Libraries beside the network modules: `vitrify.utils.data`."""

from . import data as data
