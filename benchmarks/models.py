"""The models of the benchmarks, written once: each takes `torch`, which is PyTorch or vitrify."""

from __future__ import annotations

from typing import Any

MLP_SIZES = (784, 512, 256, 10)


def mlp(torch: Any) -> Any:
    nn = torch.nn
    a, b, c, d = MLP_SIZES
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))


def cnn(torch: Any) -> Any:
    """Two convolutions with pooling and two linear layers, for images of 1 x 28 x 28: examples/mnist.py."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def attention(torch: Any, q: Any, k: Any, v: Any, causal: bool, spelled_out: bool) -> Any:
    """Scaled dot product attention of (..., T, d): the library's function, or written out."""
    if not spelled_out:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    if causal:
        rows, columns = scores.shape[-2:]
        above = torch.ones(rows, columns, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(above, float("-inf"))
    return torch.softmax(scores, -1) @ v


class GPTSizes:
    """A small GPT: 4 layers, 4 heads, 128 wide."""

    layers, heads, width, context, vocabulary = 4, 4, 128, 64, 65


def gpt(torch: Any, *, layers: int = GPTSizes.layers, spelled_out: bool = False) -> Any:
    """A GPT-2 of pre-norm blocks; forward(tokens) gives the logits, step(tokens, position, caches) those of
    the next token, writing its keys and values to the caches."""
    nn, functional = torch.nn, torch.nn.functional
    width, heads = GPTSizes.width, GPTSizes.heads

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def split(self, x: Any) -> Any:
            batch, length, _ = x.shape
            parts = self.qkv(self.norm1(x)).split(width, 2)
            return [p.view(batch, length, heads, width // heads).transpose(1, 2) for p in parts]

        def join(self, x: Any, y: Any) -> Any:
            x = x + self.project(y.transpose(1, 2).reshape(x.shape))
            return x + self.narrow(functional.gelu(self.widen(self.norm2(x))))

        def forward(self, x: Any) -> Any:
            return self.join(x, attention(torch, *self.split(x), True, spelled_out))

        def step(self, x: Any, position: int, keys: Any, values: Any) -> Any:
            q, k, v = self.split(x)
            keys[:, :, position : position + 1] = k
            values[:, :, position : position + 1] = v
            return self.join(x, attention(torch, q, keys, values, False, spelled_out))

    class GPT(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(GPTSizes.vocabulary, width)
            self.places = nn.Embedding(GPTSizes.context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, GPTSizes.vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

        def step(self, tokens: Any, position: int, caches: Any) -> Any:
            x = self.tokens(tokens) + self.places.weight[position]
            for block, (keys, values) in zip(self.blocks, caches, strict=True):
                x = block.step(x, position, keys, values)
            return self.head(self.norm(x))

    return GPT()


def resnet18(torch: Any) -> Any:
    """ResNet-18 for ImageNet (He et al., 2015)."""
    nn = torch.nn

    def conv(inputs: int, outputs: int, size: int, stride: int) -> Any:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, 1)
            same = stride == 1 and inputs == outputs
            self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))

    blocks, inputs = [], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(
        conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000),
    )  # fmt: skip


class LSTMSizes:
    """A classifier of texts of 32 words out of 10,000."""

    vocabulary, width, steps, classes = 10_000, 128, 32, 10


def lstm(torch: Any) -> Any:
    """Embedding, LSTM, linear layer on the state after the last word."""
    nn, sizes = torch.nn, LSTMSizes

    class Classifier(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
            self.lstm = nn.LSTM(sizes.width, sizes.width, batch_first=True)
            self.head = nn.Linear(sizes.width, sizes.classes)

        def forward(self, tokens: Any) -> Any:
            _, (last, _) = self.lstm(self.embedding(tokens))
            return self.head(last[0])

    return Classifier()
