"""Make the images of README and docs: a run's report, the drawing of a network, the service's page.

The run is the kept one of results/ whose weights come with the package. Its most confident mistakes
are not kept, being images; they are found again here, which needs CIFAR-10 and Chromium.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import resnets
from resnets.data import open_dataset
from resnets.data.samples import data_url
from resnets.evaluation.network import evaluate
from resnets.inference.runtimes.torch_runtime import Network

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).with_name("pictures")
RUN = ROOT / "results" / "resnet20-fast_cifar" / "seed-0"
SIZE = (1080, 650)  # from the title to the curves
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RESNETS = (sys.executable, "-m", "resnets")


def write_mistakes(run: Path) -> None:
    """Write mistakes.json of the run; fail unless the weights answer as it says."""
    model = resnets.create_model("resnet20", weights="cifar10")
    dataset = open_dataset("cifar10")
    split = dataset.part("test")
    found = evaluate(model, split, model.preprocess)
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert found.confusion == kept["results"]["test"]["confusion"]
    mistakes = [
        {
            "sample": str(int(split.ids[i])),
            "label": dataset.classes[int(found.labels[i])],
            "predicted": dataset.classes[int(found.predicted[i])],
            "confidence": float(found.confidence[i]),
            "picture": data_url(split, i),
        }
        for i in found.mistakes(24)
    ]
    (run / "mistakes.json").write_text(json.dumps(mistakes), encoding="utf-8")


def photograph(page: Path, picture: Path) -> None:
    """Write what a browser shows of a page, from its top, as PNG."""
    browser = next(filter(shutil.which, BROWSERS))
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--log-level=3"]
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    shot = f"--screenshot={picture}"
    subprocess.run([browser, *options, size, shot, page.as_uri()], check=True)


def photograph_service(folder: Path, picture: Path) -> None:
    """Write what the service's page shows of three images, one of them explained, as PNG."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import Browser
    from served import served

    subprocess.run(
        [*RESNETS, "data", "sample", "cifar10", "--count", "3", "--out", folder], check=True
    )
    network = Network(resnets.create_model("resnet20", weights="cifar10"))
    with served({"resnet20": network}) as client, Browser() as browser:
        page = browser.open(f"http://{client.host}:{client.port}/", (1080, 880))
        for _ in range(2):  # what is first takes longer
            page.run("document.getElementById('clear').click()")
            page.choose("#files", *sorted(folder.iterdir()))
            page.wait("document.querySelectorAll('.answers').length === 3")
        page.click(".answers button")
        page.wait("document.querySelector('.look').textContent.startsWith('It glows')")
        page.run("document.activeElement.blur(), scrollTo(0, 0)")
        page.shot(picture)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(RUN, Path(folder) / RUN.name))
        write_mistakes(run)
        subprocess.run([*RESNETS, "report", run], check=True)
        photograph(run / "report.html", PICTURES / "report.png")
        photograph_service(Path(folder) / "images", PICTURES / "page.png")
    drawing = PICTURES / "resnet50.svg"
    subprocess.run([*RESNETS, "draw", "resnet50", "--out", drawing], check=True)
