# Every target makes the environment it needs, once.  PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-port notebooks docs wheel lint format bench faults fuzz clean

demo: $(VENV)/installed
	$(BIN)/gm-jax condense --dataset mnist5k --ipc 1 --scheme multi-level --distance cosine+l2 \
	  --step-rule overfit --iterations 40 --batch-real 16 --out runs/demo --replace
	$(BIN)/gm-jax evaluate runs/demo --count 3 --epochs 150

# The quick tier, for all day long: a worker keeps a file together, so that its fixtures serve once.
test: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 --dist loadfile

# Every test there is: PyTorch's files, the port that speed is measured against, TPU programs.
test-all: $(VENV)/installed-torch
	$(BIN)/pytest -n 2 --dist loadfile -m 'slow or not slow'

# The PyTorch port that speed is measured against, held to the golden vectors.
test-port: $(VENV)/installed-torch
	$(BIN)/pytest -m 'slow or not slow' tests/experiments/test_torch_port.py \
	  tests/storage/test_pt_file.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Time and memory of each part beside the PyTorch port, in one run: a table, and bench.json.
bench: $(VENV)/installed-torch
	$(BIN)/python -m experiments.benchmarks.bench

# 20 real runs killed by SIGKILL and resumed, compared with an unbroken one byte by byte.
faults: $(VENV)/installed-dev
	$(BIN)/python -m tests.stress.faults

# Thousands of damaged and made-up files, of which each must end in one clear line.
fuzz: $(VENV)/installed-torch
	$(BIN)/python -m tests.stress.fuzz

# The notebooks, written anew from their Python source and executed.
notebooks: $(VENV)/installed-dev
	$(BIN)/jupytext --quiet --to ipynb docs/notebooks/*.py
	$(BIN)/jupyter execute --inplace docs/notebooks/*.ipynb

# The documentation site, from docs/ and the docstrings, into site/: open site/index.html.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# dist/gm_jax-VERSION-py3-none-any.whl, which needs no checkout.
wheel: $(VENV)/installed-dev
	rm -rf build dist  # else what was deleted since would be in it
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV)

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gm_jax needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[pictures,samples]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

$(VENV)/installed-torch: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) -e '.[torch,tpu]'
	@touch $@
