"""Packing and padding of sequences: PyTorch's `nn.utils.rnn`."""

from .._packed import PackedSequence as PackedSequence
from .._packed import pack_padded_sequence as pack_padded_sequence
from .._packed import pack_sequence as pack_sequence
from .._packed import pad_packed_sequence as pad_packed_sequence
from .._packed import pad_sequence as pad_sequence
