"""The functions behind the layers, with PyTorch's names and arguments: `vitrify.nn.functional`."""

from .. import _arguments
from .._dispatch import native as _native
from ._functional_activation import elu as elu
from ._functional_activation import gelu as gelu
from ._functional_activation import glu as glu
from ._functional_activation import hardtanh as hardtanh
from ._functional_activation import leaky_relu as leaky_relu
from ._functional_activation import log_softmax as log_softmax
from ._functional_activation import logsigmoid as logsigmoid
from ._functional_activation import relu as relu
from ._functional_activation import relu6 as relu6
from ._functional_activation import relu_ as relu_
from ._functional_activation import sigmoid as sigmoid
from ._functional_activation import silu as silu
from ._functional_activation import softmax as softmax
from ._functional_activation import softmin as softmin
from ._functional_activation import softplus as softplus
from ._functional_activation import tanh as tanh
from ._functional_attention import dropout as dropout
from ._functional_attention import dropout1d as dropout1d
from ._functional_attention import dropout2d as dropout2d
from ._functional_attention import scaled_dot_product_attention as scaled_dot_product_attention
from ._functional_linear import bilinear as bilinear
from ._functional_linear import conv1d as conv1d
from ._functional_linear import conv2d as conv2d
from ._functional_linear import conv3d as conv3d
from ._functional_linear import linear as linear
from ._functional_loss import binary_cross_entropy as binary_cross_entropy
from ._functional_loss import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from ._functional_loss import cross_entropy as cross_entropy
from ._functional_loss import huber_loss as huber_loss
from ._functional_loss import kl_div as kl_div
from ._functional_loss import l1_loss as l1_loss
from ._functional_loss import mse_loss as mse_loss
from ._functional_loss import nll_loss as nll_loss
from ._functional_loss import smooth_l1_loss as smooth_l1_loss
from ._functional_norm import batch_norm as batch_norm
from ._functional_norm import cosine_similarity as cosine_similarity
from ._functional_norm import group_norm as group_norm
from ._functional_norm import instance_norm as instance_norm
from ._functional_norm import layer_norm as layer_norm
from ._functional_norm import normalize as normalize
from ._functional_norm import rms_norm as rms_norm
from ._functional_pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from ._functional_pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from ._functional_pooling import avg_pool1d as avg_pool1d
from ._functional_pooling import avg_pool2d as avg_pool2d
from ._functional_pooling import max_pool1d as max_pool1d
from ._functional_pooling import max_pool2d as max_pool2d
from ._functional_pooling import max_pool3d as max_pool3d
from ._functional_pooling import pad as pad
from ._functional_sparse import embedding as embedding
from ._functional_sparse import one_hot as one_hot
from ._functional_transposed import conv_transpose1d as conv_transpose1d
from ._functional_transposed import conv_transpose2d as conv_transpose2d
from ._functional_transposed import conv_transpose3d as conv_transpose3d

_arguments.parse_all(globals())
if _native is not None:
    from .._learned import in_front_of as _in_front_of

    for _function in (relu, gelu, silu, sigmoid, tanh, leaky_relu, linear, embedding, pad):
        globals()[_function.__name__] = _in_front_of(_function)
    for _composite in (
        softmax, log_softmax, softplus, layer_norm, rms_norm, cross_entropy, nll_loss, mse_loss, l1_loss,
    ):  # fmt: skip
        globals()[_composite.__name__] = _in_front_of(_composite, composite=True)
