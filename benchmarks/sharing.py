"""How threads should wait for each other: alone, and beside another job.

usage: python benchmarks/sharing.py [--batch 64 128] [--waiting default adapts passive 1000 ...]
       [--rounds 6] [--seconds 4]

Each cell is a fresh process that trains resnet20 on one synthetic batch: two seconds unmeasured,
then SECONDS. `default` leaves OpenMP as it is, `adapts` is what `resnets` commands do
(`resnets.machine.sharing`), `passive` is OMP_WAIT_POLICY, a number is GOMP_SPINCOUNT. It is alone,
beside one process that keeps one core busy, in a session of its own as another user's would be, or
beside a second training like itself. The order is reversed every round. A ratio is to `default`
alone in the same round, its median over the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

from loop import stepper

BUSY = [sys.executable, "-c", "while True: pass"]
CONDITIONS = ("alone", "busy", "training")
SETTLING = 2.0  # seconds before the measurement


def work(batch: int, waiting: str, seconds: float) -> None:
    """Print how many images a second this process trains."""
    from resnets.machine.sharing import sharing_cores

    step = stepper(batch)

    def steps(seconds: float) -> float:
        taken, began = 0, time.monotonic()
        while time.monotonic() < began + seconds or taken < 3:
            step()
            taken += 1
        return taken * batch / (time.monotonic() - began)

    step()
    print("ready", flush=True)
    sys.stdin.readline()
    with sharing_cores() if waiting == "adapts" else nullcontext():
        steps(SETTLING)
        print(steps(seconds), flush=True)
        while True:  # until it is killed, so that a second training has company to its end
            step()


def start(options: argparse.Namespace, batch: int, waiting: str) -> subprocess.Popen:
    """Start a training that is ready to go."""
    ours = {"default": {}, "adapts": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment |= ours.get(waiting, {"GOMP_SPINCOUNT": waiting})
    command = [sys.executable, __file__, "--work", str(batch), "--waiting", waiting]
    command += ["--seconds", str(options.seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    process.stdout.readline()
    return process


def measure(options: argparse.Namespace, batch: int, waiting: str, condition: str) -> float:
    """Return images a second, of one of the two where two train."""
    processes = [start(options, batch, waiting) for _ in range(1 + (condition == "training"))]
    busy = subprocess.Popen(BUSY, start_new_session=True) if condition == "busy" else None
    try:
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return statistics.mean(float(process.stdout.readline()) for process in processes)
    finally:
        for process in (*processes, *([busy] if busy else [])):
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument(
        "--waiting", nargs="+", default=["default", "adapts", "passive", "1000", "10000", "30000"]
    )
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.waiting[0], options.seconds)
        return
    for batch in options.batch:
        rates: dict[tuple[str, str], list[float]] = {}
        for number in range(options.rounds):
            cells = [(w, c) for w in options.waiting for c in options.conditions]
            for cell in cells[:: -1 if number % 2 else 1]:
                rates.setdefault(cell, []).append(measure(options, batch, *cell))
        print(f"batch {batch}: img/s, median (range), ratio to {options.waiting[0]} alone")
        alone = rates[options.waiting[0], options.conditions[0]]
        for waiting in options.waiting:
            texts = []
            for condition in options.conditions:
                mine = rates[waiting, condition]
                ratio = statistics.median(a / b for a, b in zip(mine, alone, strict=True))
                between = f"{min(mine):.0f} to {max(mine):.0f}"
                texts.append(f"{condition} {statistics.median(mine):.0f} ({between}) {ratio:.2f}")
            print(f"  {waiting:>8s}   {'   '.join(texts)}", flush=True)


if __name__ == "__main__":
    main()
