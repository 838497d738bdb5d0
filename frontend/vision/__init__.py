"""Data sets and transforms of images."""

from . import datasets as datasets
from . import transforms as transforms
