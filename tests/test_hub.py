"""The Hugging Face mixin, with folders and a hub made of paper: nothing goes over the network."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

pytest.importorskip("huggingface_hub")

import huggingface_hub
from huggingface_hub import hub_mixin
from huggingface_hub.errors import LocalEntryNotFoundError

from resnets import create_model, open_model
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, ResourceError
from resnets.integrations import hub
from resnets.integrations.hub import HubResNet
from resnets.models import restore
from resnets.weights.calibration import Calibration, Unknown
from resnets.weights.conformal import Conformal
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=3).eval()
    model.classes = ("apple", "basil", "ceramic")
    model.preprocess = Preprocess(3, 32, 32, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    sets = Conformal((0.1, 0.2), (0.2, 0.3), (0.2, 0.4))
    model.calibration = Calibration(9, (0.5,), (), Unknown("energy", -1.0, 0.05), sets)
    return model


def same(ours, theirs):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    assert ours.spec == theirs.spec
    assert ours.classes == theirs.classes
    assert ours.preprocess == theirs.preprocess
    assert ours.calibration == theirs.calibration
    assert ours.training == theirs.training


def test_there_and_back(model, tmp_path):
    HubResNet.of(model).save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    again = HubResNet.from_pretrained(tmp_path)
    same(again, model)
    again.save_pretrained(tmp_path / "again")
    same(HubResNet.from_pretrained(tmp_path / "again"), model)
    config = (tmp_path / "config.json").read_bytes()
    assert (tmp_path / "again" / "config.json").read_bytes() == config


def test_the_folder_opens_like_a_run_folder(model, tmp_path):
    HubResNet.of(model).save_pretrained(tmp_path)
    same(open_model(tmp_path), model)


def test_config_says_what_it_is(model, tmp_path):
    HubResNet.of(model).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["spec"] == model.spec.to_dict()
    assert config["classes"] == ["apple", "basil", "ceramic"]
    assert Preprocess.from_dict(config["preprocess"]) == model.preprocess
    card = (tmp_path / "README.md").read_text()
    assert "library_name: resnets" in card
    assert "pipeline_tag: image-classification" in card


def test_how_it_was_made_travels_along(model, tmp_path):
    made = {"recipe": {"seed": 3}, "results": {"test": {"accuracy": 0.5}}}
    metadata = Metadata(model.spec, made=made)
    write_native(tmp_path / "model.safetensors", model.state_dict(), metadata)
    again = HubResNet.from_pretrained(tmp_path)  # a run folder has no config.json
    assert again.made == made
    again.save_pretrained(tmp_path / "again")
    assert restore(tmp_path / "again")[1].made == made


def test_the_two_share_their_tensors(model):
    model.layer1.eval()
    model.layer2.train()
    model.fc.weight.requires_grad_(False)
    shared = HubResNet.of(model)
    for (name, ours), theirs in zip(shared.named_parameters(), model.parameters(), strict=True):
        assert ours is theirs, name
    for ours, theirs in zip(shared.buffers(), model.buffers(), strict=True):
        assert ours is theirs
    assert [m.training for m in shared.modules()] == [m.training for m in model.modules()]


@pytest.fixture
def paper_hub(monkeypatch, tmp_path):
    """A hub whose repositories are folders; what is not there is not found."""
    root = tmp_path / "hub"

    def download(repo_id, filename, **options):
        path = root / repo_id / filename
        if not path.exists():
            raise LocalEntryNotFoundError(f"no {filename} in {repo_id}\nmany\nlines")
        return str(path)

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            (root / repo_id).mkdir(parents=True)
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, repo_id, folder_path, **options):
            for path in folder_path.iterdir():
                (root / repo_id / path.name).write_bytes(path.read_bytes())
            return f"https://huggingface.co/{repo_id}/commit/0"

    monkeypatch.setattr(hub_mixin, "hf_hub_download", download)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    return root


def test_pushed_and_fetched(model, paper_hub):
    where = HubResNet.of(model).push_to_hub("me/fruit")
    assert where.startswith("https://huggingface.co/me/fruit")
    assert sorted(p.name for p in (paper_hub / "me/fruit").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    same(HubResNet.from_pretrained("me/fruit"), model)


def test_what_is_not_there_is_one_line(paper_hub):
    with pytest.raises(ResourceError) as caught:
        HubResNet.from_pretrained("me/nothing")
    assert "me/nothing" in caught.value.message
    assert "\n" not in caught.value.message
    with pytest.raises(ResourceError, match=r"\.\./\.\./nowhere"):
        HubResNet.from_pretrained("../../nowhere")


def test_what_is_no_residual_network_is_refused(paper_hub):
    from safetensors.torch import save_file

    folder = paper_hub / "you/other"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="you/other"):
        HubResNet.from_pretrained("you/other")


def test_a_config_that_says_another_thing_is_refused(model, tmp_path):
    HubResNet.of(model).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    other = replace(model.spec, activation="gelu").to_dict()
    path.write_text(json.dumps({**config, "spec": other}))
    with pytest.raises(CheckpointError, match=r"config\.json describes .*gelu"):
        HubResNet.from_pretrained(tmp_path)
    path.write_text('{"spec": ')
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        HubResNet.from_pretrained(tmp_path)


def test_a_damaged_weights_file_is_refused(model, tmp_path):
    HubResNet.of(model).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        HubResNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("variable", ["RESNETS_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_offline_switch_holds(monkeypatch, variable):
    asked = []

    def download(repo_id, filename, *, local_files_only, **options):
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(hub_mixin, "hf_hub_download", download)
    monkeypatch.delenv("RESNETS_OFFLINE", raising=False)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ResourceError):
        HubResNet.from_pretrained("me/fruit")
    assert asked == [True]


def test_without_the_package_the_extra_is_named():
    code = """
import sys
sys.modules["huggingface_hub"] = None
from resnets.errors import ResourceError
try:
    import resnets.integrations.hub
except ResourceError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'pip install "resnets[hub]"'
