"""A client that means no good: requests made of bytes, each another by its number, always the same.

What it sends is wrong in every layer: the request line, headers, lengths and chunks, the parts of a
form, images, JSON and tensors. What it asks of each answer is in `fault_of`.
"""

import io
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

Chance = random.Random
SIDE = 32
HOST = b"Host: 127.0.0.1\r\n"


def image_file(kind: str, side: int = 24) -> bytes:
    chance = Chance(side)
    image = Image.frombytes("RGB", (side, side), chance.randbytes(3 * side * side))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


PNG = image_file("PNG")
BOMB = zlib.compress(bytes(4 << 20), 9)
FILES = [PNG, *map(image_file, ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))]


def request(
    path: bytes = b"/predict",
    body: bytes = PNG,
    kind: bytes = b"image/png",
    *headers: bytes,
    method: bytes = b"POST",
    length: bytes | None = None,
) -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", HOST.strip(), b"Content-Type: " + kind]
    lines += [b"Content-Length: " + (str(len(body)).encode() if length is None else length)]
    return b"\r\n".join([*lines, *headers, b"", body])


def chunked(chunks: list[bytes], *headers: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    lines = [b"POST /predict HTTP/1.1", HOST.strip(), b"Content-Type: image/png"]
    return (
        b"\r\n".join([*lines, b"Transfer-Encoding: chunked", *headers, b"", b"".join(parts)]) + end
    )


def form(*parts: bytes, boundary: bytes = b"edge", end: bytes = b"--", stated=None) -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    kind = b"multipart/form-data; boundary=" + (boundary if stated is None else stated)
    return request(body=body + b"--" + boundary + end + b"\r\n", kind=kind)


def part(data: bytes = PNG, name: bytes = b'name="image"; filename="a.png"') -> bytes:
    head = b"Content-Disposition: form-data; " + name + b"\r\nContent-Type: image/png\r\n\r\n"
    return head + data


def infer(asked: object, rest: bytes = b"", header: bytes | None = None, name=b"net") -> bytes:
    text = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    length = str(len(text)).encode() if header is None else header
    extra = [b"Inference-Header-Content-Length: " + length] if rest or header is not None else []
    kind = b"application/octet-stream" if rest else b"application/json"
    return request(b"/v2/models/" + name + b"/infer", text + rest, kind, *extra)


def png(width: int, height: int, data: bytes, kind: int = 2) -> bytes:
    """A PNG whose header and data have nothing to do with each other."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def largest() -> bytes:
    """The image that takes most memory: as many pixels as may be, with transparency."""
    rows = zlib.compressobj(1)
    data = [rows.compress(bytes(100 * (1 + 4 * 8000))) for _ in range(80)]
    return png(8000, 8000, b"".join([*data, rows.flush()]), kind=6)


def mutated(chance: Chance, data: bytes) -> bytes:
    """Some bytes changed, cut, doubled or put elsewhere."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(changed) + 1)
        until = min(len(changed), at + chance.choice((1, 1, 2, 8, 100)))
        act = chance.randrange(5)
        if act == 0:
            changed[at:until] = chance.randbytes(until - at)
        elif act == 1:
            del changed[at:until]
        elif act == 2:
            changed[at:at] = changed[at:until] * chance.choice((1, 2, 30))
        elif act == 3:
            special = (b"\0", b"\r\n", b"\r\n\r\n", b"\xff", b"--", b":", b"%00", b"9" * 20, b"\n")
            changed[at:at] = chance.choice(special)
        else:
            for place in range(at, until):
                changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def bad_lengths(chance: Chance) -> bytes:
    true = len(PNG)
    stated = (true + 1, true * 1000, true - 1, 0, -1, 10**30, 2**63, 2**64 - 1, 33 << 20)
    words = (
        b"+5",
        b" 5 ",
        b"0x10",
        b"5, 5",
        b"5, 6",
        b"1e3",
        b"",
        b"\xb2",
        b"five",
        b"1_0",
        b"5\0",
    )
    length = chance.choice([*(str(size).encode() for size in stated), *words])
    more = chance.choice(((), (b"Content-Length: 3",), (b"content-length: %d" % true,)))
    return request(b"/predict", PNG, b"image/png", *more, length=length)


def bad_chunks(chance: Chance) -> bytes:
    whole = [PNG[start : start + 100] for start in range(0, len(PNG), 100)]
    return chance.choice(
        (
            lambda: chunked([b"x"] * 20_000),
            lambda: chunked([b"\0" * 65_536] * chance.choice((10, 100))),
            lambda: chunked(whole, end=b""),
            lambda: chunked(whole, end=b"-5\r\n"),
            lambda: chunked(whole, end=b"FFFFFFFFFFFFFFFFF\r\n" + PNG),
            lambda: chunked(whole, end=b"7fffffff\r\n" + PNG),
            lambda: chunked(whole, end=b"zz\r\n\r\n"),
            lambda: chunked(whole, end=b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"),
            lambda: chunked([PNG], end=b"5;" + b"e" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n"),
            lambda: chunked(whole).replace(b"\r\n", b"\n"),
            lambda: chunked(whole, b"Transfer-Encoding: identity"),
            lambda: chunked(whole, b"Transfer-Encoding: gzip"),
            lambda: chunked([zlib.compress(bytes(1 << 20))], b"Content-Encoding: deflate"),
            lambda: mutated(chance, chunked(whole)),
        )
    )()


def smuggled(chance: Chance) -> bytes:
    """Two lengths for one body, so that two who read it disagree where the next request begins."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    coding = chance.choice(
        (
            b"chunked",
            b" chunked",
            b"chunked, identity",
            b"xchunked",
            b"chunked\x0b",
            b"CHUNKED",
            b"\tchunked",
        )
    )
    head = chance.choice(
        (b"Transfer-Encoding: ", b"Transfer-Encoding : ", b"X: y\r\n Transfer-Encoding: ")
    )
    length = chance.choice((b"6", b"0", str(5 + len(hidden)).encode()))
    headers = [head + coding, b"Content-Length: " + length]
    chance.shuffle(headers)
    lines = [b"POST /predict HTTP/1.1", HOST.strip(), *headers, b"", b"0\r\n\r\n" + hidden]
    return b"\r\n".join(lines)


def bad_headers(chance: Chance) -> bytes:
    long = chance.choice((1000, 70_000, 3_000_000))
    return chance.choice(
        (
            lambda: request(b"/predict", PNG, b"image/png", b"X: " + b"a" * long),
            lambda: request(b"/predict", PNG, b"image/png", *[b"X: y"] * (long // 10)),
            lambda: request(b"/predict", PNG, b"a" * long),
            lambda: request(b"/predict", PNG, b"image/png", b"X: a\0b"),
            lambda: request(b"/predict", PNG, b"image/png", b"X: \xff\xfe\xf0"),
            lambda: request(b"/predict", PNG, b"image/png", b"no colon"),
            lambda: request(b"/predict", PNG, b"image/png", b"a b: c"),
            lambda: request(b"/predict", PNG, b"image/png", b": nameless"),
            lambda: request(b"/predict", PNG, b"image/png", b"X: y\r\n folded"),
            lambda: request(b"/predict", PNG, b"image/png", b"Host: other"),
            lambda: request(b"/predict", PNG, b"image/png").replace(HOST, b""),
            lambda: request(b"/predict", PNG, b"image/png", b"Expect: 100-continue"),
            lambda: request(b"/predict", PNG, b"image/png", b"Expect: miracles"),
            lambda: request(
                b"/predict", PNG, b"image/png", b"Upgrade: websocket", b"Connection: Upgrade"
            ),
            lambda: request(
                b"/predict", PNG, b"image/png", b"Upgrade: h2c", b"Connection: Upgrade"
            ),
            lambda: request(b"/predict", PNG, b"image/png", b"Content-Encoding: gzip"),
            lambda: request(b"/predict", PNG, b"image/png", b"Range: bytes=0-1,2-3"),
            lambda: request(
                b"/predict", PNG, b"image/png", b"Authorization: Bearer " + b"\xff" * 50
            ),
            lambda: request(
                b"/predict", PNG, b"image/png", b"X-Forwarded-For: 1", b"X-Http-Method: PUT"
            ),
            lambda: request(b"/predict", PNG, b'image/png; charset=\xff; q="\r\n'),
            lambda: request(b"/predict", PNG, b"IMAGE/PNG;;;===,,\0"),
            lambda: b"X: y\r\n" * 20_000,
        )
    )()


def bad_lines(chance: Chance) -> bytes:
    method = chance.choice(
        (
            b"GET",
            b"POST",
            b"HEAD",
            b"OPTIONS",
            b"PUT",
            b"DELETE",
            b"TRACE",
            b"CONNECT",
            b"get",
            b"G\0T",
            b"",
        )
    )
    path = chance.choice(
        (
            b"/",
            b"*",
            b"",
            b"http://example.org/predict",
            b"//predict",
            b"/predict/",
            b"/predict/..",
            b"/%00",
            b"/../../etc/passwd",
            b"/%2e%2e/%2e%2e/etc/passwd",
            b"/..%5c..",
            b"/\xff\xfe",
            b"/" + b"a" * 100_000,
            b"/?" + b"&".join([b"a=b"] * 20_000),
            b"/v2/models/%00/infer",
            b"/v2/models/../../ready",
            b"/v2/models/net%2finfer",
            b"/v2/models//infer",
            b"/v2/models/" + b"\xc3\xa9" * 100 + b"/ready",
            b"/metrics?x=" + b"%" * 100,
            b"/openapi.json#x",
            b"/pr edict",
            b"/v2/health/live",
            b"/metrics",
            b"/openapi.json",
            b"/favicon.ico",
            b"/page.js/../page.css",
        )
    )
    version = chance.choice(
        (
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/0.9",
            b"HTTP/2.0",
            b"HTTP/9.9",
            b"HTTP/1.",
            b"",
            b"FTP/1.1",
        )
    )
    line = b" ".join((method, path, version)).strip() if version else method + b" " + path
    tail = chance.choice((b"\r\n" + HOST + b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\n"))
    return line + tail


def no_http(chance: Chance) -> bytes:
    return chance.choice(
        (
            lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(300),
            lambda: chance.randbytes(chance.choice((1, 100, 10_000, 200_000))),
            lambda: bytes(chance.choice((1, 1000, 200_000))),
            lambda: b"\r\n" * chance.choice((1, 100, 50_000)),
            lambda: b"GET /",
            lambda: b"A" * 300_000,
            lambda: b"",
        )
    )()


def bad_forms(chance: Chance) -> bytes:
    inner = form(part(), boundary=b"inner").split(b"\r\n\r\n", 1)[1]
    nested = b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n" + inner
    for _ in range(chance.choice((0, 50))):
        nested = b"Content-Type: multipart/mixed; boundary=edge\r\n\r\n--edge\r\n" + nested
    return chance.choice(
        (
            lambda: form(nested),
            lambda: form(*[part(b"")] * chance.choice((100, 5000))),
            lambda: form(*[part(PNG)] * chance.choice((20, 300))),
            lambda: form(part(), stated=b"another"),
            lambda: form(part(), stated=b""),
            lambda: form(part(), stated=b"e" * 5000),
            lambda: form(part(), stated=b'"edge'),
            lambda: form(part(), stated=b"\xff\0"),
            lambda: form(part(), end=b""),
            lambda: form(part(), boundary=b"-"),
            lambda: form(),
            lambda: form(b""),
            lambda: form(b"\r\n"),
            lambda: form(b"X: " + b"y" * chance.choice((1000, 300_000)) + b"\r\n\r\n" + PNG),
            lambda: form(b"\r\n".join([b"X: y"] * 20_000) + b"\r\n\r\n" + PNG),
            lambda: form(part(PNG, b'name="a"; filename="' + b"x" * 100_000 + b'"')),
            lambda: form(part(b"broken", b'name="a"; filename="<img src=x onerror=alert(1)>"')),
            lambda: form(part(b"broken", b'name="a"; filename="\xff\xfe\x1b[31m\r\nX: y"')),
            lambda: form(part(b"broken", b"name=\"a\"; filename*=utf-8''%ed%a0%80%0d%0a")),
            lambda: form(part(PNG, b"")),
            lambda: form(part(PNG, b'name="model"')),
            lambda: form(part(), part(b"no image"), part()),
            lambda: form(b"Content-Transfer-Encoding: base64\r\n" + part()),
            lambda: form(b"no colon\r\n\r\n" + PNG),
            lambda: request(
                body=b"--edge\r\n" * 50_000, kind=b"multipart/form-data; boundary=edge"
            ),
            lambda: request(
                body=b"\r\n--edge" * 9000 + b"-", kind=b"multipart/form-data; boundary=edge"
            ),
            lambda: request(body=b"a=b&" * 50_000, kind=b"application/x-www-form-urlencoded"),
            lambda: request(body=PNG, kind=b"multipart/form-data"),
            lambda: request(body=PNG, kind=b"multipart/mixed; boundary=edge"),
            lambda: mutated(chance, form(part(), part())),
        )
    )()


def bad_images(chance: Chance) -> bytes:
    jpeg, gif, tiff = FILES[1], FILES[2], FILES[4]
    frame = jpeg.index(b"\xff\xc0") + 5
    data = chance.choice(
        (
            lambda: png(60_000, 60_000, BOMB),
            lambda: png(2**31 - 1, 1, BOMB),
            lambda: png(0, 0, BOMB),
            lambda: png(8000, 7999, BOMB[:1000]),
            lambda: png(1000, 1000, BOMB, kind=chance.choice((0, 3, 5, 6, 99))),
            lambda: png(24, 24, BOMB * 4),
            lambda: jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :],
            lambda: jpeg[:frame] + b"\x1f\x40\x1f\x40" + jpeg[frame + 4 :],
            lambda: jpeg[: chance.randrange(len(jpeg))],
            lambda: jpeg[:-2] + (b"\xff\xda" + jpeg[-60:-2]) * 500 + b"\xff\xd9",
            lambda: jpeg[:2] + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 20 + jpeg[2:],
            lambda: gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
            lambda: (
                tiff[:4] + struct.pack("<I", chance.choice((4, 8, 2**31, 2**32 - 1))) + tiff[8:]
            ),
            lambda: b"P6\n99999 99999\n255\n" + bytes(100),
            lambda: b"P6\n" + b"1" * 100_000 + b" 1\n255\n",
            lambda: b"BM" + struct.pack("<IIIIiiHHI", 99, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0),
            lambda: b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff",
            lambda: gif + b"<script>alert(1)</script>" + jpeg,
            lambda: b"<html><script>" + PNG,
            lambda: b"%PDF-1.4\n" + PNG,
            lambda: b"%!PS\nsystemdict /run get exec",
            lambda: (
                b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
            ),
            lambda: b"PK\x03\x04" + PNG,
            lambda: b"",
            lambda: chance.randbytes(2000),
            lambda: mutated(chance, chance.choice(FILES)),
            lambda: mutated(chance, chance.choice(FILES)),
            lambda: mutated(chance, chance.choice(FILES)),
        )
    )()
    kind = chance.choice(
        (b"image/png", b"image/jpeg", b"application/octet-stream", b"text/html", b"image/*")
    )
    if chance.random() < 0.2:
        return infer(data, header=b"0", rest=b"")
    return form(part(data)) if chance.random() < 0.2 else request(body=data, kind=kind)


def bad_tensors(chance: Chance) -> bytes:
    shape, count = [1, 3, SIDE, SIDE], 3 * SIDE * SIDE
    good = {"name": "images", "datatype": "FP32", "shape": shape}
    size = {"binary_data_size": 4 * count}
    lie = chance.choice(
        (
            {
                "shape": chance.choice(
                    ([2**40, 3, SIDE, SIDE], [-1, 3, SIDE, SIDE], [], [0] * 4, [1] * 10**5)
                )
            },
            {"shape": chance.choice((None, "1", {}, [1.5], [[1]], [True], [10**18] * 4, [10**30]))},
            {
                "datatype": chance.choice(
                    ("FP64", "BYTES", "", None, 3, "FP32\0", "fp32", "x" * 10**6)
                )
            },
            {
                "name": chance.choice(
                    ("files", "", None, [], "i" * 10**6, "\ud800", "../x", "images\0")
                )
            },
            {
                "parameters": {
                    "binary_data_size": chance.choice((-1, 10**18, 1.5, "4", None, 0, True))
                }
            },
            {"parameters": {"shared_memory_region": "x", "shared_memory_byte_size": 10**12}},
            {
                "data": chance.choice(
                    ([], [[]] * 1000, [1] * count, [None] * count, "x", {}, [1e308] * count)
                )
            },
            {"datatype": "BYTES", "name": "files", "shape": [2]},
        )
    )
    rest = chance.choice(
        (
            bytes(4 * count),
            struct.pack("<f", float("nan")) * count,
            struct.pack("<f", 3e38) * count,
            struct.pack("<I", 2**32 - 1) + PNG,
            struct.pack("<I", len(PNG)) + PNG,
            bytes(400_000),
            b"",
        )
    )
    whole = {"inputs": [good | {"parameters": size} | lie]}
    return chance.choice(
        (
            lambda: infer(whole, rest),
            lambda: infer(
                whole | {"outputs": [{"name": chance.choice(("classes", "x", 3))}] * 3}, rest
            ),
            lambda: infer({"inputs": [good | {"data": [3e38] * count} | lie]}),
            lambda: infer({"inputs": [good | {"data": [0] * count}], "id": "\ud800" * 1000}),
            lambda: infer(
                whole, rest, chance.choice((b"-1", b"1", b"9" * 5000, b"x", b"0", b"1.0", b""))
            ),
            lambda: infer(b"[" * chance.choice((100, 100_000))),
            lambda: infer(b'{"inputs":' * 100_000),
            lambda: infer(b"[" + b"[]," * 300_000 + b"[]]"),
            lambda: infer(b"[" + b"{}," * 600_000 + b"{}]"),
            lambda: infer(b'{"inputs": [' + b"1" * 100_000 + b"]}"),
            lambda: infer(b'{"a": NaN, "b": Infinity, "c": 1e9999}'),
            lambda: infer(b'{"id": "' + b"\\u0000" * 10_000 + b'"}'),
            lambda: infer(b'{"inputs": [], "inputs": []}'),
            lambda: infer(b"\xff\xfe{\0}\0"),
            lambda: infer(
                whole, rest, name=chance.choice((b"other", b"%00", b"..", b"a/b", b"x" * 5000))
            ),
            lambda: mutated(chance, infer(whole, rest)),
            lambda: mutated(chance, infer({"inputs": [good | {"data": [0] * count}]})),
        )
    )()


def bad_queries(chance: Chance) -> bytes:
    query = chance.choice(
        (
            b"top=-1",
            b"top=0",
            b"top=99999999999999999999",
            b"top=1.5",
            b"top=",
            b"top=%d9%a2",
            b"top=a&top=2",
            b"model=%00",
            b"model=other",
            b"model=" + b"x" * 50_000,
            b"model=%ff%fe",
            b"model=<img onerror=x>",
            b"=",
            b"&&&&",
            b"%",
            b"top",
            b"x=y",
            b"model=..%2f..%2fetc%2fpasswd",
            b"coverage=nan",
            b"coverage=2",
        )
    )
    return request(chance.choice((b"/predict?", b"/v2/models/net/infer?", b"/explain?")) + query)


def pipelined(chance: Chance) -> bytes:
    good = request(b"/v2/health/live", b"", method=b"GET")
    several = [good, request(), good, chance.choice((request(b"/nowhere"), bad_images(chance)))]
    chance.shuffle(several)
    last = chance.choice((b"", good[:20], chance.randbytes(100), request()[:300], good * 50))
    return b"".join(several) + last


def cut_off(chance: Chance) -> bytes:
    """A request that ends in the middle."""
    whole = chance.choice(
        (request(), form(part(), part()), chunked([PNG]), request(b"/predict?top=1"))
    )
    return whole[: chance.randrange(len(whole))]


def mutated_whole(chance: Chance) -> bytes:
    usual = (
        request(),
        form(part(), part()),
        chunked([PNG]),
        request(b"/v2/models/net", b"", method=b"GET"),
    )
    return mutated(chance, chance.choice(usual))


FAMILIES: tuple[Callable[[Chance], bytes], ...] = (
    bad_lengths,
    bad_chunks,
    smuggled,
    bad_headers,
    bad_lines,
    no_http,
    bad_forms,
    bad_images,
    bad_tensors,
    bad_queries,
    pipelined,
    cut_off,
    mutated_whole,
)


@dataclass(frozen=True)
class Attack:
    """What is sent on one connection, all at once or in pieces with pauses."""

    name: str
    pieces: list[bytes]
    pause: float = 0.0


def attack(number: int) -> Attack:
    chance = Chance(number)
    family = FAMILIES[number % len(FAMILIES)]
    data = family(chance)
    name = f"{number} {family.__name__}"
    if chance.random() < 0.02:  # a slow client
        cuts = sorted(chance.sample(range(len(data) + 1), min(len(data), 5)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        return Attack(f"{name}, slowly", pieces, 0.1)
    return Attack(name, [data])


def sent(address: tuple[str, int], attack: Attack, patience: float) -> bytes:
    """Return all that is answered until the other side closes, or nothing has come for a while."""
    found = b""
    with socket.create_connection(address, timeout=20) as connection:
        with suppress(ConnectionError):  # it may close at any time
            for piece in attack.pieces:
                connection.sendall(piece)
                time.sleep(attack.pause)
        connection.settimeout(patience)
        with suppress(ConnectionError, TimeoutError):
            while data := connection.recv(1 << 16):
                found += data
    return found


def answers(data: bytes) -> Iterator[tuple[int, dict[bytes, bytes], bytes]]:
    """Yield the status, headers and body of each whole answer; ValueError for what is no HTTP."""
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        version, status, *_ = line.split(b" ")
        if not separator or version != b"HTTP/1.1":
            raise ValueError(f"no answer of HTTP: {head[:200]!r}")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)
        }
        if int(status) == 100:
            continue
        length = int(headers[b"content-length"])
        yield int(status), headers, data[:length]
        data = data[length:]


def fault_of(data: bytes) -> str | None:
    """Return what is wrong with what was answered on a connection."""
    for word in (b"Traceback", b'File "', b"site-packages", b"Error("):
        if word in data:
            return f"shows {word!r}"
    for status, headers, body in answers(data):
        if status >= 500 and status not in (501, 503):  # 501: an export does not explain
            return f"{status} {body[:300]!r}"
        if status >= 400:
            if headers.get(b"content-type") != b"application/json":
                return f"{status} is {headers.get(b'content-type')!r}: {body[:200]!r}"
            told = json.loads(body) if body else {"error": "of a HEAD"}
            if not told["error"] or "\n" in told["error"] or len(told["error"]) > 2000:
                return f"{status} says {told['error'][:300]!r}"
    return None
