# `make demo` and `make test` need nothing but Python 3.11 or later; they make the environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

REFERENCE := .venv-reference

.PHONY: demo test test-all test-quiet pages golden browser adversary clients ray torchrun zoo zoo-sample reference check lint types format \
	table pictures lessons catalog cifar reproduce finetuning gpu-table bench-training bench-inference bench-models \
	bench-pipeline bench-serving bench-gpu site clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED)  ## train resnet20 on handwritten digits, two minutes on two cores
	$(BIN)/resnets train digits --model resnet20 --out runs/demo --overwrite
	$(BIN)/resnets data sample digits --split test --count 6 --out runs/demo-pictures
	$(BIN)/resnets predict runs/demo runs/demo-pictures/*.png
	@echo
	@echo "Open runs/demo/report.html in a browser."

# A file at a time on each of two cores, in the order of their names: the last are short.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)  ## the default test suite, on two cores
	$(BIN)/python -m pytest $(IN_TWO) --durations=25

test-all: $(INSTALLED)  ## the slow tests too, and the quiet ones
	$(BIN)/python -m pytest -m ""

test-quiet: $(INSTALLED)  ## tests that compare times, for a machine that does little else
	$(BIN)/python -m pytest -m quiet

adversary: $(INSTALLED)  ## 10,000 malicious requests to a service, minutes
	$(BIN)/python -m pytest -m slow tests/serving/test_adversary.py

pages: $(INSTALLED)  ## what the pages of docs/ say, typed as it stands
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "pages and not slow"

golden: $(INSTALLED)  ## runs, logits, load reports, exports and predictions as recorded, to the bit
	$(BIN)/python -m pytest -m golden tests/golden

browser: $(INSTALLED)  ## the pages in a real browser; needs chromium
	$(BIN)/python -m pytest -m browser

ray: $(INSTALLED)  ## --on, on a Ray cluster of two nodes on this machine, which are killed; ten minutes
	$(BIN)/python -m pytest -m ray

torchrun: $(INSTALLED)  ## workers killed and signalled under a real torchrun
	$(BIN)/python -m pytest -m slow tests/training/test_distributed.py -k torchrun

ZOO := -n 2 --dist worksteal -v -m zoo
TODAY := $(shell date +%F)

zoo: $(INSTALLED)  ## every model: runs, copies, compiles, exports; a quarter of an hour
	$(BIN)/python -m pytest $(ZOO)

zoo-sample: $(INSTALLED)  ## the same for some models of each family, others every day
	$(BIN)/python -m pytest $(ZOO) --models-of $(TODAY)

$(REFERENCE)/installed: pyproject.toml constraints.txt reference/constraints.txt
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/pip install --quiet -c constraints.txt -c reference/constraints.txt \
		-e ".[serve]" pytest pytest-xdist hypothesis openapi-spec-validator torchvision timm keras segmentation-models-pytorch mapie cleanlab netcal scikit-learn \
		onnx onnxscript onnxruntime grpcio geventhttpclient python-rapidjson
	# Alone: it wants an older ml-dtypes than onnx has here, and does not import it.
	$(REFERENCE)/bin/pip install --quiet --no-deps -c reference/constraints.txt tritonclient
	touch $@

reference: $(REFERENCE)/installed  ## the same as torchvision, timm, Keras, smp, MAPIE, cleanlab, netcal and scikit-learn; Triton's schema
	cd reference && ../$(REFERENCE)/bin/python -m pytest -n 2 --dist worksteal

clients: $(REFERENCE)/installed  ## the service asked by Triton's client, its description by OpenAPI's validator
	$(REFERENCE)/bin/python -m pytest tests/serving -k "triton or openapi"

check: lint types test  ## what CI runs

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

table: $(INSTALLED)  ## rewrite the golden counts, docs/models.md and the README's few models
	$(BIN)/python docs/model_table.py --write

pictures: $(INSTALLED)  ## rewrite docs/pictures; needs chromium, and CIFAR-10 (RESNETS_DATA)
	$(BIN)/resnets data get cifar10
	$(BIN)/python docs/make_pictures.py
	$(BIN)/python docs/draw_alignment.py

lessons: $(INSTALLED)  ## draw the pictures of docs/learn again, and run what its chapters print
	$(BIN)/python docs/make_lessons.py

catalog: $(REFERENCE)/installed  ## rewrite the published weights from torchvision's, timm's and Keras's own data
	cd reference && ../$(REFERENCE)/bin/python ../docs/make_catalog.py --write

cifar: $(INSTALLED)  ## 1,200 iterations of the paper's recipe on CIFAR-10, under ten minutes
	$(BIN)/resnets data get cifar10
	$(BIN)/resnets train cifar10 --model resnet20 --recipe he2015_cifar \
		--set schedule.iterations=1200 --out runs/cifar --overwrite

SITE := $(VENV)/installed-docs
$(SITE): $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

WITH ?= zensical
site: $(SITE)  ## the site from docs/ into build/site, seconds; WITH=mkdocs is by Material for MkDocs
	$(if $(filter mkdocs,$(WITH)),$(BIN)/pip install --quiet -c constraints.txt mkdocs-material)
	$(BIN)/python docs/make_site.py --with $(WITH)

WHAT ?= fast shape
reproduce: $(INSTALLED)  ## repeat the results that two CPU cores can, hours; goes on where it stopped
	$(BIN)/python results/reproduce.py --again $(WHAT)

# WEIGHTS: where all but the first way start, such as a run of ResNet-18 on Tiny ImageNet.
# SETS: a folder with clothing/ and trashnet/ (photographs in class folders). Hours; MORE="--size 64 --seeds 1" is less.
SETS ?= photographs
WEIGHTS ?= runs/pretraining
finetuning: $(INSTALLED)  ## from scratch and from weights on real photographs; goes on where it stopped
	$(BIN)/python results/finetuning.py --weights $(WEIGHTS) --data $(SETS) $(MORE)

gpu-table:  ## He et al. 2015, Table 6, and Keras's rows on a CUDA GPU, nine minutes at a time
	PYTHONPATH=src $(PYTHON) results/reproduce.py gpu --minutes 9 --device cuda

PEERS := .venv-peers
$(PEERS)/installed: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -r benchmarks/peers/requirements.txt
	touch $@

DATA ?= .data
bench-training: $(INSTALLED) $(REFERENCE)/installed $(PEERS)/installed  ## whole epochs beside the loops of others
	$(BIN)/python benchmarks/training_epoch.py --root $(DATA)

bench-inference: $(INSTALLED) $(REFERENCE)/installed  ## answers a second, first answers, memory
	$(BIN)/python benchmarks/inference.py --files runs/exports
	$(BIN)/python benchmarks/bare.py --files runs/exports
	$(BIN)/python benchmarks/prediction.py --files runs/exports

bench-models: $(REFERENCE)/installed  ## steps and inference beside torchvision and timm, where they have the net
	$(REFERENCE)/bin/python benchmarks/models.py --rounds 8

PIPELINE := .venv-pipeline
$(PIPELINE)/installed: benchmarks/peers/pipeline.txt constraints.txt reference/constraints.txt
	$(PYTHON) -m venv $(PIPELINE)
	$(PIPELINE)/bin/pip install --quiet -c constraints.txt -c reference/constraints.txt \
		-r benchmarks/peers/pipeline.txt
	touch $@

# PHOTOGRAPHS: a folder with the 1,000 of github.com/EliSchwartz/imagenet-sample-images, of which 11 GB
# are made in FILES, once. Then it takes 25 minutes, with QUICK=--quick six.
PHOTOGRAPHS ?= photographs
FILES ?= runs/pipeline
bench-pipeline: $(INSTALLED) $(PIPELINE)/installed  ## from files to batches, beside the loaders of others
	$(BIN)/python benchmarks/pipeline.py --photographs $(PHOTOGRAPHS) --files $(FILES) $(QUICK)
	$(BIN)/python benchmarks/training_waits.py $(FILES)/photographs $(QUICK)

SERVING := .venv-serving
$(SERVING)/installed: benchmarks/peers/serving.txt
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/pip install --quiet -r benchmarks/peers/serving.txt
	touch $@

bench-serving: $(INSTALLED) $(SERVING)/installed  ## the service beside those of others, ten minutes; QUICK=--quick is two
	$(BIN)/python benchmarks/serving.py --files runs/exports $(QUICK)

bench-gpu:  ## epochs a second on a CUDA GPU beside an eager loop with a loader, ten minutes
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py --device cuda

clean:
	rm -rf build $(VENV) $(REFERENCE) $(PEERS) $(PIPELINE) $(SERVING) .pytest_cache .mypy_cache .ruff_cache .hypothesis
