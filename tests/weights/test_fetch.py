"""Fetching published weights: caches first, whole files verified, a server on this machine."""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from resnets.errors import CheckpointError, ResourceError
from resnets.machine import downloads as transfer
from resnets.weights import fetch as fetching
from resnets.weights.catalog import Entry, RemoteFile
from resnets.weights.fetch import fetch, own_path

GOOD = b"weights" * 1000
SHA256 = hashlib.sha256(GOOD).hexdigest()
MD5 = hashlib.md5(GOOD).hexdigest()
HUB = RemoteFile("https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors")


@dataclass
class Server:
    """Answers with ``bodies`` one after the other, the last one for ever; a number is an error."""

    address: str = ""
    bodies: list[bytes | int] = field(default_factory=lambda: [GOOD])
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(302)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self):
            body = state.bodies[min(state.asked, len(state.bodies) - 1)]
            state.asked += 1
            if isinstance(body, int):
                self.send_error(body)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}/net-{SHA256[:8]}.pth"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own: no cache of this machine is looked into."""
    for variable in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "KERAS_HOME", "FVCORE_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("RESNETS_CACHE", "RESNETS_OFFLINE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def entry(*files: RemoteFile) -> Entry:
    return Entry("test.weights", "resnet18", files, "torchvision", {}, mebibytes=0.01)


def published(server: Server) -> Entry:
    return entry(RemoteFile(server.address, f"sha256:{SHA256[:8]}"))


def put(path, content=GOOD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_downloaded_once_and_verified(server, home):
    lines = []
    path = fetch(published(server), report=lines.append)
    assert path.read_bytes() == GOOD
    assert path.is_relative_to(home / ".cache" / "resnets" / "weights")
    assert fetch(published(server)) == path
    assert server.asked == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written is left
    assert "fetching test.weights of resnet18 from http" in lines[0]
    assert lines[-1].endswith("verified")


def test_the_folder_can_be_chosen(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "mine"))
    assert fetch(published(server)).is_relative_to(tmp_path / "mine")


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, ".cache/torch/hub/checkpoints"),
        ("TORCH_HOME", "elsewhere/hub/checkpoints"),
        ("XDG_CACHE_HOME", "elsewhere/torch/hub/checkpoints"),
    ],
)
def test_torchs_cache_is_looked_in_first(server, home, monkeypatch, variable, place):
    if variable:
        monkeypatch.setenv(variable, str(home / "elsewhere"))
    path = put(home / place / f"net-{SHA256[:8]}.pth")
    assert fetch(published(server)) == path
    assert server.asked == 0


def test_a_damaged_file_in_torchs_cache_is_passed_over_and_kept(server, home):
    path = put(home / ".cache/torch/hub/checkpoints" / f"net-{SHA256[:8]}.pth", GOOD[:-1] + b"x")
    lines = []
    own = fetch(published(server), report=lines.append)
    assert own.read_bytes() == GOOD
    assert path.exists()
    assert f"{path} is passed over: its SHA-256 is" in lines[0]


def test_a_damaged_file_of_ours_is_fetched_again(server):
    put(own_path(published(server), published(server).files[0]), GOOD[:-1])
    lines = []
    assert fetch(published(server), report=lines.append).read_bytes() == GOOD
    assert "is damaged and fetched again" in lines[0]


def hub_cache(root, content=GOOD, blob=SHA256):
    """Lay a file as huggingface_hub does: a link into blobs, which are named by their digest."""
    repository = root / "models--timm--resnet18.a1_in1k"
    stored = put(repository / "blobs" / blob, content)
    put(repository / "refs" / "main", b"0123abcd")
    path = repository / "snapshots" / "0123abcd" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.symlink_to(stored)
    return path


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, ".cache/huggingface/hub"),
        ("HF_HOME", "elsewhere/hub"),
        ("HF_HUB_CACHE", "elsewhere"),
    ],
)
def test_the_hubs_cache_is_looked_in_too(home, monkeypatch, variable, place):
    if variable:
        monkeypatch.setenv(variable, str(home / "elsewhere"))
    path = hub_cache(home / place)
    both = entry(RemoteFile("https://example.org/net.pth", "sha256:01234567"), HUB)
    assert fetch(both, offline=True) == path


def test_a_file_in_the_hubs_cache_must_have_the_digest_of_its_name(home):
    hub_cache(home / ".cache/huggingface/hub", GOOD[:-1])
    lines = []
    with pytest.raises(ResourceError):
        fetch(entry(HUB), offline=True, report=lines.append)
    assert "is passed over: its SHA-256 is" in lines[0]


def test_the_digest_that_the_hub_states_is_checked(server, monkeypatch):
    monkeypatch.setattr(fetching, "_HUB", server.address.split("/")[2])
    address = server.address.rpartition("/")[0] + "/o/r/resolve/main/model.safetensors"
    server.headers = {"X-Linked-Etag": f'"{SHA256}"'}
    lines = []
    path = fetch(entry(RemoteFile(address)), report=lines.append)
    assert not any("nobody publishes" in line for line in lines)
    put(path, GOOD[:-1])  # what was stated is remembered
    assert fetch(entry(RemoteFile(address)), report=lines.append).read_bytes() == GOOD
    path.unlink()
    server.bodies = [GOOD[1:]]
    with pytest.raises(CheckpointError, match="its SHA-256 is"):
        fetch(entry(RemoteFile(address)))


@pytest.mark.parametrize("name", ["net.h5", "R-50.pkl"])
def test_other_caches(home, name):
    """Keras's, and detectron2's, which mirrors the address."""
    if name.endswith(".h5"):
        path = put(home / ".keras/models" / name)
        file = RemoteFile(f"https://storage.googleapis.com/x/{name}", f"md5:{MD5}")
    else:
        path = put(home / ".torch/iopath_cache/detectron2/MSRA" / name)
        file = RemoteFile(f"https://dl.fbaipublicfiles.com/detectron2/MSRA/{name}")
    assert fetch(entry(file), offline=True) == path


def test_wrong_bytes_are_never_kept(server):
    server.bodies = [b"<html>log in to this network</html>"]
    with pytest.raises(CheckpointError) as caught:
        fetch(published(server))
    assert f"not {SHA256[:8]}" in caught.value.message
    assert "another network" in caught.value.hint
    own = own_path(published(server), published(server).files[0])
    assert list(own.parent.iterdir()) == []
    assert server.asked == 3


def test_another_attempt_may_succeed(server):
    server.bodies = [500, GOOD[:-3], GOOD]
    assert fetch(published(server)).read_bytes() == GOOD


def test_a_second_place_is_tried(server):
    server.bodies = [404, GOOD]
    other = RemoteFile(server.address.replace("net-", "copy-"), f"sha256:{SHA256}")
    path = fetch(entry(published(server).files[0], other))
    assert path.name.startswith("copy-")


def test_no_network_is_one_clear_line(server, home):
    server.bodies = [404]
    with pytest.raises(ResourceError) as caught:
        fetch(published(server))
    assert caught.value.message == (
        f"test.weights of resnet18 cannot be downloaded: {server.address}: the server answers 404"
    )
    assert str(home) in caught.value.hint
    nowhere = RemoteFile("http://127.0.0.1:9/net.pth", "sha256:01234567")
    with pytest.raises(ResourceError, match=r"the connection failed \(\w+\)"):
        fetch(entry(nowhere))


@pytest.mark.parametrize("variable", ["RESNETS_OFFLINE", "HF_HUB_OFFLINE"])
def test_one_switch_keeps_off_the_network(server, home, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ResourceError) as caught:
        fetch(published(server))
    assert server.asked == 0
    assert "not on this machine" in caught.value.message
    assert server.address in caught.value.hint
    expected = own_path(published(server), published(server).files[0])
    assert str(expected) in caught.value.hint
    assert fetch(published(server), offline=False) == expected
    assert fetch(published(server)) == expected  # now it is here
    put(expected, b"damaged")
    with pytest.raises(ResourceError, match="damaged"):
        fetch(published(server))
    assert expected.exists()
    monkeypatch.setenv("RESNETS_OFFLINE", "0")  # ours decides
    assert fetch(published(server)).read_bytes() == GOOD


def test_without_a_published_digest_the_first_file_is_trusted_and_recorded(server):
    plain = entry(RemoteFile(server.address))
    lines = []
    path = fetch(plain, report=lines.append)
    (said,) = (line for line in lines if "nobody publishes a digest" in line)
    record = path.with_name(f"{path.name}.sha256")
    assert str(record) in said
    assert SHA256 in said
    assert record.read_text() == f"{SHA256}  {path.name}\n"
    lines.clear()
    fetch(plain, report=lines.append)
    assert not any("nobody" in line for line in lines)
    path.unlink()
    server.bodies = [GOOD + b"new"]
    with pytest.raises(CheckpointError) as caught:
        fetch(plain)
    assert SHA256 in caught.value.message
    assert f"remove {record}" in caught.value.hint
    record.unlink()
    assert fetch(plain).read_bytes() == GOOD + b"new"


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    put(tmp_path / "file")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError) as caught:
        fetch(published(server))
    assert "cannot be written" in caught.value.message
    assert "RESNETS_CACHE" in caught.value.hint


def test_all_digits_are_compared(server):
    whole = replace(published(server), files=(RemoteFile(server.address, f"sha256:{SHA256}"),))
    assert fetch(whole).read_bytes() == GOOD
    wrong = RemoteFile(server.address, f"sha256:{SHA256[:-1]}{'0' if SHA256[-1] != '0' else '1'}")
    with pytest.raises(CheckpointError):
        fetch(replace(whole, files=(wrong,), name="other"))
