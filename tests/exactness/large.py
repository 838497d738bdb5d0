"""Cases of sizes at which kernels are shared out among threads, blocked for caches, and packed."""

from __future__ import annotations

import vitrify
import vitrify.nn.functional as F

from .cases import Case

LARGE: tuple[Case, ...] = (
    Case("chain", lambda x, y: F.gelu(x * y + 0.5).sigmoid() - vitrify.tanh(x), ((1037, 501), (501,))),
    Case("softmax", lambda x: F.softmax(x, -1), ((2000, 301),)),
    Case("softmax_long", lambda x: F.softmax(x, -1), ((3, 200_001),)),
    Case("layer_norm", lambda x, w, b: F.layer_norm(x, (301,), w, b), ((1999, 301), (301,), (301,))),
    Case("group_norm", lambda x, w, b: F.group_norm(x, 4, w, b), ((32, 16, 23, 29), (16,), (16,))),
    Case(
        "batch_norm",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ((64, 9, 31, 31), (9,), (9,)),
    ),
    Case("sum_all", lambda x: (x * x).sum(), ((1301, 523),)),
    Case("sum_rows", lambda x: x.sum(0), ((4099, 259),)),
    Case("sum_lanes", lambda x: x.sum(1), ((1031, 4099),)),
    Case("sum_middle", lambda x: x.sum(1), ((40, 300, 77),)),
    Case("sort", lambda x: x.sort(1).values - x.kthvalue(40, 0).values, ((601, 703),)),
    Case("cumsum", lambda x: x.cumsum(0) + x.cumsum(1), ((601, 703),)),
    Case("matmul", lambda x, y: x @ y, ((511, 520), (520, 509))),
    Case("matmul_nt", lambda x, y: x @ y.t(), ((300, 785), (513, 785))),
    Case("matmul_tn", lambda x, y: x.t() @ y, ((5000, 70), (5000, 90))),
    Case("matvec", lambda x, y: x @ y, ((2001, 1003), (1003,))),
    Case("vecmat", lambda x, y: x @ y.t(), ((1, 1003), (2001, 1003))),
    Case("batched", lambda x, y: x @ y, ((37, 65, 70), (37, 70, 66))),
    Case("linear_gelu", lambda x, w, b: F.gelu(F.linear(x, w, b)), ((257, 301), (403, 301), (403,))),
    Case(
        "conv2d",
        lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)),
        ((9, 17, 27, 29), (33, 17, 3, 3), (33,)),
    ),
    Case("conv2d_stride", lambda x, w: F.conv2d(x, w, stride=2, padding=3), ((8, 3, 57, 57), (40, 3, 7, 7))),
    Case(
        "conv2d_depthwise",
        lambda x, w: F.conv2d(x, w, padding=1, groups=48),
        ((8, 48, 29, 29), (48, 1, 3, 3)),
    ),
    Case("max_pool", lambda x: F.max_pool2d(x, 3, stride=2, padding=1), ((16, 32, 57, 57),)),
    Case("avg_pool", lambda x: F.avg_pool2d(x, 2), ((16, 32, 56, 56),)),
    Case("transpose", lambda x: x.transpose(0, 2).contiguous() * 2, ((67, 90, 101),)),
    Case("concat", lambda x, y: vitrify.cat([x, y * 2, x[:, :7]], 1), ((1001, 301), (1001, 203))),
    Case("gather", lambda w: F.embedding(vitrify.arange(30_000) * 7 % 997, w), ((997, 33),)),
    Case(
        "attention",
        lambda q, k, v: F.softmax(q @ k.transpose(-1, -2) / 8.0, -1) @ v,
        ((4, 6, 130, 64), (4, 6, 130, 64), (4, 6, 130, 64)),
    ),
    Case(
        "attention_causal",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        ((4, 6, 130, 64), (4, 6, 130, 64), (4, 6, 130, 64)),
    ),
)  # fmt: skip
