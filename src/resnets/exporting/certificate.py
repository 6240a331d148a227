"""What an export was compared with, how, and what came of it: one JSON file beside it.

Nothing in it depends on the machine but the measured differences: no paths, no times, no names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from resnets import __version__
from resnets.exporting.int8 import Quantized
from resnets.exporting.parity import Comparison
from resnets.exporting.plan import ExportPlan, packages_of
from resnets.exporting.raw_pixels import preprocess_or_identity
from resnets.formatting import percent
from resnets.inference.runtimes.torch_runtime import network_digest
from resnets.machine.downloads import digest_of
from resnets.nn import ResNet

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Export:
    """A file that was written, and how it was checked.

    ``comparison`` is about the file in float32, from which one in 8 bits was made.
    """

    path: Path
    certificate: Path
    name: str  # the network's
    plan: ExportPlan
    comparison: Comparison = field(repr=False)
    quantized: Quantized | None
    record: dict[str, Any] = field(repr=False)  # what the certificate says

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate and where the files are, as JSON-able values."""
        return {"path": str(self.path), "certificate": str(self.certificate), **self.record}

    def sentences(self) -> list[str]:
        """Return in words what was written and what its check has found."""
        form = self.plan.input.to_dict()
        size = form["size"] if form["size"] == "dynamic" else "{} x {}".format(*form["size"])
        lines = [
            f"{self.path}: {self.name} in {form['precision']}, input {form['input']}, batch "
            f"{form['batch']}, size {size}",
            *self._compared(),
        ]
        if self.quantized:
            lines += _judged(self.quantized)
        if answered := self.record.get("answers"):
            off = [f"{name} {distance:.1e}" for name, distance in answered["off"].items()]
            lines.append(f"besides logits: {', '.join(off)} off what follows from these")
        return [*lines, f"certificate: {self.certificate}"]

    def _compared(self) -> list[str]:
        comparison = self.comparison
        agree, of = comparison.top1
        whose = f"real images ({comparison.source})" if comparison.source else "generated images"
        what = "in float32, " if self.quantized else ""
        absolute, relative = comparison.largest()
        resized, _ = comparison.largest(resized=True)
        where = f" (where it resizes, by {resized:.1e})" if resized else ""
        lines = [
            f"{what}as the network in torch: logits differ by {absolute:.1e} at most{where}, "
            f"{relative:.1e} of the largest; {comparison.used:.0%} of the bound; same class on "
            f"{agree} of {of} {whose}"
        ]
        if not comparison.source:
            lines.append("only generated images were used: real ones are given by --images DIR")
        return lines


def _judged(quantized: Quantized) -> list[str]:
    test, part = quantized.test, quantized.samples.part
    lines = [
        f"in 8 bits: {percent(test.after / test.of, 2)} of {test.of:,} right on the {part} split "
        f"of {quantized.samples.data}, in float32 {percent(test.before / test.of, 2)}; same class "
        f"on {test.agree:,}",
        test.sentence(),
    ]
    if kept := quantized.float_layers:
        lines.append(f"in float stayed {len(kept)} of {quantized.layers} layers: {', '.join(kept)}")
    else:
        lines.append(f"all {quantized.layers} layers are in 8 bits")
    return lines


def certificate(
    network: ResNet,
    plan: ExportPlan,
    files: Sequence[Path],
    comparison: Comparison,
    quantized: Quantized | None,
    made: Mapping[str, Any],
    answered: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of a certificate for files that are written.

    ``made`` is how the weights came about, of which it says whether their run had ended;
    ``answered`` how far off what the file answers beside its logits is, where it does.
    """
    packages = ("torch", *packages_of(plan.to, plan.int8))
    # The module says it whatever it was installed as: onnxruntime may be onnxruntime-gpu.
    versions = {
        name: str(getattr(import_module(name), "__version__", "unknown")) for name in packages
    }
    return {
        "schema_version": SCHEMA_VERSION,
        # The digest is that of architecture, weights and preprocessing.
        "network": {
            **{"name": network.spec.name, "sha256": function_digest(network)},
            **({"unfinished": made["unfinished"]} if "unfinished" in made else {}),
        },
        "export": plan.record(),
        "files": {path.name: digest_of(path) for path in files},
        "versions": {"resnets": __version__, **versions},
        "float32": comparison.to_dict(),
        "int8": quantized.to_dict() if quantized else None,
        **({"answers": answered} if answered else {}),
        "passed": True,
    }


def function_digest(network: ResNet) -> str:
    """Return the SHA-256 of a network's architecture, weights and preprocessing."""
    return network_digest(network, preprocess_or_identity(network))
