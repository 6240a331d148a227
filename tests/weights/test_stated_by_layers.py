"""What whole modules, graphs and nested trees say beyond names and shapes."""

import io
import warnings

import pytest
import torch
from torch import nn

from conftest import scramble
from resnets import create_model, load_weights, open_model
from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.checkpoint import open_checkpoint

SMALL = {"depths": (1, 2), "widths": (8, 16), "stem_width": 8, "num_classes": 3}
V1 = Spec("small", "bottleneck", **SMALL, bottleneck_stride="1x1", norm_eps=2e-5)
BASIC = Spec("small", **SMALL, stem="3x3", image_size=32)
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained(spec: Spec) -> nn.Module:
    torch.manual_seed(0)
    return scramble(create_model(spec)).eval()


def under_other_words(module: nn.Module) -> nn.Module:
    """The same modules under names that nobody knows."""
    for name, child in list(module.named_children()):
        under_other_words(child)
        if not name.isdigit():
            delattr(module, name)
            module.add_module(f"x{name.replace('layer', 'grp')}", child)
    return module


@pytest.mark.parametrize("stride", ["1x1", "3x3"])
def test_a_whole_module_says_where_it_strides_and_its_epsilon(tmp_path, stride):
    spec = Spec.from_dict({**V1.to_dict(), "bottleneck_stride": stride})
    model = trained(spec)
    expected = model(X)
    torch.save(under_other_words(model), tmp_path / "whole.pth")
    checkpoint = open_checkpoint(tmp_path / "whole.pth")
    assert checkpoint.proven["bottleneck_stride"] == stride
    assert checkpoint.proven["norm_eps"] == 2e-5
    again = open_model(tmp_path / "whole.pth")
    assert again.spec == spec
    assert again(X).equal(expected)


def test_a_stem_that_strides_as_none_here_is_refused(tmp_path):
    model = trained(BASIC)
    model.conv1.stride = (2, 2)
    torch.save(model, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="stride of 2"):
        create_model(BASIC, weights=tmp_path / "whole.pth")


def test_whole_modules_say_what_they_activate_and_pool_with(tmp_path):
    spec = Spec.from_dict({**BASIC.to_dict(), "activation": "silu"})
    torch.save(under_other_words(trained(spec)), tmp_path / "silu.pth")
    assert open_checkpoint(tmp_path / "silu.pth").proven["activation"] == "silu"
    with pytest.raises(CheckpointError, match="activation silu for relu"):
        create_model(BASIC, weights=tmp_path / "silu.pth")
    pooling = trained(BASIC)
    pooling.maxpool = nn.MaxPool2d(3, 1, 1)
    torch.save(pooling, tmp_path / "pool.pth")
    with pytest.raises(CheckpointError, match="max-pooling"):
        create_model(BASIC, weights=tmp_path / "pool.pth")


def flax_tree(model: nn.Module) -> dict[str, dict]:
    """The tensors as flax nests them: layouts of TensorFlow, keys sorted, statistics apart."""
    tree: dict[str, dict] = {"params": {}, "batch_stats": {}}
    words = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    for key, tensor in sorted(model.state_dict().items()):
        *path, leaf = key.split(".")
        if leaf == "num_batches_tracked":
            continue
        place = tree["batch_stats" if leaf.startswith("running") else "params"]
        for word in path:
            place = place.setdefault(f"Child_{word}", {})
        if leaf == "weight" and tensor.ndim > 1:
            turned = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
            place["kernel"] = turned.contiguous()
        else:
            place[words.get(leaf, "scale")] = tensor
    return tree


@pytest.mark.parametrize("net", ["resnet8_b", "resnet14_b"])
def test_nested_trees_of_two_kinds(net):
    model = trained(create_model(net, num_classes=5).spec)
    again = create_model(net, num_classes=5)
    report = load_weights(again, {"step": 3, "target": flax_tree(model)})
    assert again.eval()(X).equal(model(X))
    assert report.share == 1


def test_norms_that_are_folded_in(tmp_path):
    """As inference graphs have them: each convolution with a bias, and no norms."""
    model = trained(BASIC)
    folded = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        where, _, last = name.rpartition(".")
        norm = f"{where}.{int(last) + 1}" if last.isdigit() else name.replace("conv", "bn")
        fused = torch.nn.utils.fuse_conv_bn_eval(module, model.get_submodule(norm))
        folded |= {f"{name}.weight": fused.weight, f"{name}.bias": fused.bias}
    folded |= {f"fc.{key}": tensor for key, tensor in model.fc.state_dict().items()}
    again = create_model(BASIC, weights=folded).eval()
    torch.testing.assert_close(again(X), model(X), rtol=1e-4, atol=1e-4)
    assert "activation_order" in again.assumed


def test_a_graph_of_onnx_with_folded_norms(tmp_path):
    model = trained(BASIC)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (X,), buffer, dynamo=False)
    (tmp_path / "net.onnx").write_bytes(buffer.getvalue())
    again = create_model(BASIC, weights=tmp_path / "net.onnx").eval()
    torch.testing.assert_close(again(X), model(X), rtol=1e-4, atol=1e-4)
