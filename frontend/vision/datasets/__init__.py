"""Data sets read from local files."""

from ._mnist import MNIST as MNIST
