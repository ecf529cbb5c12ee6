# Everything runs from a fresh clone: `make demo` and `make test` make the environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
CONSTRAINTS := constraints.txt
EXTRAS := cpu,data,train,space
PIP = $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS)
# Small models are fastest on one thread; two threads that wait actively slow each other down.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test pytest test-floor test-gpu test-full test-browser bench-env lint data stage1 feedback stage2 index benchmark reader clean

demo: $(INSTALLED)  ## Train, align, index and ask, on the Almanac: one table at the end
	$(BIN)/python train_scripts/demo.py

test: lint pytest  ## Lint, types, and all tests, offline

pytest: $(TESTABLE)
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-floor:  ## All tests with the oldest versions that setup.cfg allows, in an environment of their own
	$(MAKE) pytest VENV=.venv-floor CONSTRAINTS=constraints-floor.txt

test-gpu:  ## The tests that need a CUDA device
	$(MAKE) pytest TESTS="-m gpu"

test-full: build/constraints-full.txt  ## The loaders that need torchvision too: torch's full build (6 GB); needs no GPU
	$(MAKE) pytest VENV=.venv-full CONSTRAINTS=$< EXTRAS=$(EXTRAS),torchvision TESTS=tests/test_loaders.py

bench-env: build/constraints-full.txt  ## Where benchmarks run beside their rivals, which need torchvision (6 GB; no GPU)
	$(MAKE) .venv-bench/.installed VENV=.venv-bench CONSTRAINTS=$< EXTRAS=cpu,data,train,dev,torchvision

build/constraints-full.txt: constraints.txt
	mkdir -p build
	sed 's/^torch==.*/torch==2.14.1\ntorchvision==0.29.1/' $< > $@

test-browser: $(TESTABLE)  ## The page in headless Chromium; screenshots in runs/screenshots
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || \
	  { echo "This needs Chromium: apt-get install chromium fonts-dejavu-core"; exit 1; }
	$(PIP) -e ".[browser]"
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(BIN)/python -m pytest -m browser tests/test_browser.py

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One target per step, in the order of the data's way.
data: $(INSTALLED)  ## Pages, questions and stage 1's examples
	$(BIN)/python -m dataset_builders.almanac runs/demo/nyxqa

stage1: $(INSTALLED)  ## Contrastive pre-training
	$(BIN)/accelerate launch --cpu train_scripts/stage1.py

feedback: $(INSTALLED)  ## The reader's verdicts on what stage 1 retrieves
	$(BIN)/python train_scripts/collect_feedback.py

stage2: $(INSTALLED)  ## Fine-tuning on the verdicts
	$(BIN)/accelerate launch --cpu train_scripts/stage2.py

index: $(INSTALLED)  ## An index of the demo's pages, to search with `nyx search runs/demo/index "…"`
	$(BIN)/nyx index runs/demo/nyxqa/corpus/test.parquet -o runs/demo/index --model runs/demo/stage2

benchmark: $(INSTALLED)  ## Several seeds and controls: 25 to 45 minutes on two cores
	$(BIN)/python -m benchmarks.almanac

reader: $(INSTALLED)  ## The tiny VLM itself: about forty minutes on two cores
	$(BIN)/torchrun --nproc_per_node 2 train_scripts/train_reader.py --output runs/reader

$(INSTALLED): setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP) torch
	$(PIP) -e ".[$(EXTRAS)]"
	touch $@

$(TESTABLE): $(INSTALLED)
	$(PIP) -e ".[$(EXTRAS),mteb,dev]"
	touch $@

clean:  ## Remove what the demo made; the environment stays
	rm -rf runs
