"""The residual networks: names and numbers of parameters, eager and compiled alike."""

from __future__ import annotations

import vitrify
from vitrify.vision.models import BasicBlock, Bottleneck, ResNet, resnet18

from ..support import assert_same_bits


def test_sizes_and_names_are_torchvisions() -> None:
    model = resnet18()
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    names = list(model.state_dict())
    assert names[:6] == [
        "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
        "bn1.num_batches_tracked",
    ]  # fmt: skip
    for name in (
        "layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var",
        "layer4.1.bn2.bias", "fc.weight", "fc.bias",
    ):  # fmt: skip
        assert name in names
    assert len(names) == 122


def test_a_bottleneck_widens_by_four() -> None:
    model = ResNet(Bottleneck, (1, 1, 1, 1), num_classes=3)
    assert model.fc.in_features == 2048
    assert "layer1.0.downsample.0.weight" in model.state_dict()
    assert tuple(model(vitrify.randn(2, 3, 32, 32)).shape) == (2, 3)


def test_blocks_can_begin_as_identities() -> None:
    model = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=4, zero_init_residual=True)
    assert float(model.layer1[0].bn2.weight.detach().abs().max()) == 0
    assert float(model.layer1[0].bn1.weight.detach().min()) == 1


def test_compiled_inference_agrees_with_eager_in_every_bit() -> None:
    vitrify.manual_seed(0)
    model = resnet18(num_classes=10).eval()
    x = vitrify.randn(2, 3, 40, 36)
    compiled = vitrify.compile(model)
    with vitrify.no_grad():
        want = model.forward(x).numpy()
        for _ in range(2):
            assert_same_bits(compiled(x).numpy(), want)


def test_a_compiled_training_step_agrees_with_eager_in_every_bit() -> None:
    x, y = vitrify.randn(2, 3, 33, 40), vitrify.tensor([1, 3])
    results = []
    for compiled in (False, True):
        vitrify.manual_seed(1)
        model = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=5)
        optimizer = vitrify.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = vitrify.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = vitrify.compile(step) if compiled else step
        losses = [run(x, y).detach().numpy() for _ in range(2)]
        results.append((losses, model.state_dict()))
    for got, want in zip(results[1][0], results[0][0], strict=True):
        assert_same_bits(got, want)
    for name, want in results[0][1].items():
        assert_same_bits(results[1][1][name].numpy(), want.numpy(), name)
