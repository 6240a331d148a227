"""How long waiting threads should look for work before they sleep: alone, and beside another job.

usage: python benchmarks/sharing.py [--batch 64 128] [--spins 0 1000 ... default] [--rounds 3]

Each cell is a fresh process that trains resnet20 on one synthetic batch for SECONDS, with so many
spins (GOMP_SPINCOUNT; "default" leaves OpenMP as it is, "passive" sets OMP_WAIT_POLICY), alone or
beside one process that keeps one core busy. The order is reversed every round. A ratio is to the
best of the same round and condition, its median over the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

BUSY = [sys.executable, "-c", "while True: pass"]


def work(batch: int, seconds: float) -> None:
    """Print how many images a second this process trains."""
    import torch
    import torch.nn.functional as F

    from resnets import create_model

    model = create_model("resnet20").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, foreach=True)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    step()
    print("ready", flush=True)
    sys.stdin.readline()
    step()
    steps, began = 0, time.monotonic()
    while time.monotonic() < began + seconds or steps < 3:
        step()
        steps += 1
    print(steps * batch / (time.monotonic() - began))


def measure(batch: int, spins: str, shared: bool, seconds: float) -> float:
    variables = {"passive": {"OMP_WAIT_POLICY": "passive"}, "default": {}}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment |= variables.get(spins, {"GOMP_SPINCOUNT": spins})
    command = [sys.executable, __file__, "--work", str(batch), "--seconds", str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        process.stdout.readline()
        other = subprocess.Popen(BUSY) if shared else None
        answer, _ = process.communicate("go\n")
        if other:
            other.kill()
            other.wait()
    return float(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument(
        "--spins",
        nargs="+",
        default=["default", "passive", "300", "1000", "3000", "10000", "30000", "100000"],
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--work", type=int)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.seconds)
        return
    for batch in options.batch:
        rates: dict[tuple[str, bool], list[float]] = {}
        for number in range(options.rounds):
            cells = [(spins, shared) for spins in options.spins for shared in (False, True)]
            for cell in cells[:: -1 if number % 2 else 1]:
                rates.setdefault(cell, []).append(measure(batch, *cell, options.seconds))
        best = {
            shared: [max(rates[s, shared][i] for s in options.spins) for i in range(options.rounds)]
            for shared in (False, True)
        }
        print(f"batch {batch}: img/s alone (ratio to the best), beside a busy process (ratio)")
        for spins in options.spins:
            texts = []
            for shared in (False, True):
                mine = rates[spins, shared]
                ratio = statistics.median(a / b for a, b in zip(mine, best[shared], strict=True))
                texts.append(f"{statistics.median(mine):6.1f} ({ratio:.2f})")
            print(f"  {spins:>8s}   {'   '.join(texts)}", flush=True)


if __name__ == "__main__":
    main()
