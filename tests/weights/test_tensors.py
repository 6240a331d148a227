"""Our own files: digests name what is damaged, and one tensor under two names stays one."""

import json

import torch
from safetensors import safe_open

from resnets.readers.reader import read
from resnets.weights.tensors import damaged, read_tensors, retied, write_tensors


def test_round_trip_of_every_kind(tmp_path):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 4, generator=generator)
    tensors = {
        **{
            str(dtype): values.to(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16)
        },
        "half": values.half(),
        "integers": torch.arange(5),
        "truth": values > 0,
        "nothing": torch.zeros(0, 3),
        "number": torch.tensor(7),
        "turned": values.t(),
    }
    write_tensors(tmp_path / "x", tensors, {"about": "ü"})
    again, metadata = read_tensors(tmp_path / "x")
    assert damaged(again, metadata) == []
    assert metadata["about"] == "ü"
    assert all(again[name].equal(tensor) for name, tensor in tensors.items())
    assert all(again[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_every_damage_is_named(tmp_path):
    write_tensors(tmp_path / "x", {"a": torch.ones(2), "b": torch.zeros(2)}, {"about": "it"})
    tensors, metadata = read_tensors(tmp_path / "x")
    assert damaged({**tensors, "a": torch.tensor([1.0, 2.0])}, metadata) == ["a"]
    assert damaged({"a": tensors["a"]}, metadata) == ["b"]
    assert damaged({**tensors, "c": torch.ones(1)}, metadata) == ["c"]
    assert damaged(tensors, {**metadata, "about": "that"}) == ["@about"]
    assert damaged(tensors, {"about": "it"}) == ["@sha256"]
    assert damaged(tensors, {**metadata, "sha256": "[]"}) != []


def test_tied_tensors_are_saved_once_and_restored_tied(tmp_path):
    a, memory = torch.randn(4), torch.arange(6.0)
    tensors = {"a": a, "b": a, "c": a.clone(), "front": memory[:4], "back": memory[2:]}
    write_tensors(tmp_path / "x", tensors, {})
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert sorted(file.keys()) == ["a", "back", "c", "front"]
        assert json.loads(file.metadata()["tied"]) == {"b": "a"}
    content = read(tmp_path / "x")
    assert damaged(content.tree, content.metadata) == []
    again = retied(content.tree, content.metadata)
    assert again["b"] is again["a"]
    assert all(again[name].equal(tensor) for name, tensor in tensors.items())
