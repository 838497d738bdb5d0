"""Train an MLP or a CNN on handwritten digits, with a compiled training step.

    python examples/mnist.py                     # MLP 784-512-256-10, 10 epochs
    python examples/mnist.py --model cnn         # two convolutions, 5 epochs
    python examples/mnist.py --eager             # the same Python, op by op
    python examples/mnist.py --dump out/         # write every stage of the compiled step

A PyTorch program but for its first import. Adam with a cosine schedule: the learning rate changes in every
epoch, which does not recompile the step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import vitrify as torch
from vitrify import nn
from vitrify.utils.data import DataLoader, TensorDataset
from vitrify.vision.datasets import MNIST

DATA = Path(__file__).parent / "data" / "mnist10k"
EPOCHS = {"mlp": 10, "cnn": 5}
#: Mean and standard deviation of all pixels of the 60,000 training images, in 0..1.
MEAN, STD = 0.1307, 0.3081
#: The stages that `--dump` writes, with their files' suffixes.
STAGES = {
    "captured": "txt", "optimized": "txt", "kernels": "txt", "plan": "txt", "llvm": "ll", "asm": "s",
}  # fmt: skip


def main() -> None:
    options = parse_arguments()
    torch.manual_seed(options.seed)
    train, test = (load(options.data, options.model, train=part) for part in (True, False))
    model = mlp() if options.model == "mlp" else cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    loss_of = nn.CrossEntropyLoss()
    print(model)

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = step if options.eager else torch.compile(step)
    batches = DataLoader(train, batch_size=options.batch_size, shuffle=True, drop_last=True)
    first, total = fit(run, batches, schedule, options.epochs)
    report(predict(model, test), test.tensors[1].tolist())
    save(model, options.save or Path("out") / f"mnist-{options.model}.safetensors")
    if options.dump and not options.eager:
        dump(run, options.dump)
    what = "first step" if options.eager else "compile (capture, code, first step)"
    print(f"total {total:.2f} s: {what} {first:.2f} s, run {total - first:.2f} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on handwritten digits.")
    parser.add_argument("--model", choices=["mlp", "cnn"], default="mlp")
    parser.add_argument("--epochs", type=int, help="default: 10 for mlp, 5 for cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--eager", action="store_true", help="run op by op instead of compiling the step")
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write every stage of the compiled step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of the IDX files")
    parser.add_argument("--save", type=Path, metavar="FILE", help="default: out/mnist-MODEL.safetensors")
    options = parser.parse_args()
    if options.epochs is None:
        options.epochs = EPOCHS[options.model]
    return options


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(),
        nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


def load(folder: Path, model: str, train: bool) -> TensorDataset:
    """The images, normalised and shaped for the model, and their labels."""
    digits = MNIST(folder, train=train)
    images = (digits.data.float() / 255 - MEAN) / STD
    shape = (-1, 784) if model == "mlp" else (-1, 1, 28, 28)
    return TensorDataset(images.reshape(shape), digits.targets)


def fit(
    step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batches: DataLoader,
    schedule: Any,
    epochs: int,
) -> tuple[float, float]:
    """Train; gives the seconds of the first step and of everything, loading included."""
    begin = time.perf_counter()
    first = 0.0
    for epoch in range(1, epochs + 1):
        losses = []
        for images, labels in progress(batches, f"epoch {epoch}/{epochs}"):
            losses.append(step(images, labels))
            first = first or time.perf_counter() - begin
        schedule.step()
        mean = sum(loss.item() for loss in losses) / max(len(losses), 1)
        print(f"epoch {epoch}/{epochs}: mean loss {mean:.4f}, {time.perf_counter() - begin:.1f} s")
    return first, time.perf_counter() - begin


def progress(batches: DataLoader, label: str) -> Iterable[Any]:
    """The batches, behind a progress bar if tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    return tqdm(batches, desc=label, leave=False)


@torch.no_grad()
def predict(model: nn.Module, data: TensorDataset) -> list[int]:
    """The most likely class of each image."""
    model.eval()
    batches = DataLoader(data, batch_size=250)
    return [label for images, _ in batches for label in model(images).argmax(1).tolist()]


def report(predictions: list[int], labels: list[int]) -> None:
    """Print the confusion matrix and the accuracy."""
    counts = [[0] * 10 for _ in range(10)]
    for predicted, label in zip(predictions, labels, strict=True):
        counts[label][predicted] += 1
    print("\nconfusion matrix (row: digit, column: prediction)")
    print("      " + "".join(f"{n:6d}" for n in range(10)))
    for digit, row in enumerate(counts):
        print(f"{digit:6d}" + "".join(f"{n:6d}" if n else "     ." for n in row))
    right = sum(counts[n][n] for n in range(10))
    print(f"\ntest accuracy: {100 * right / max(len(labels), 1):.2f} %")


def save(model: nn.Module, path: Path) -> None:
    """Write the weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    print(f"weights saved to {path}")


def dump(step: Any, folder: Path) -> None:
    """Write each stage of the compiled step to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, suffix in STAGES.items():
        (folder / f"step-{stage}.{suffix}").write_text(step.ir(stage))
    print(f"stages written to {folder}")


if __name__ == "__main__":
    main()
