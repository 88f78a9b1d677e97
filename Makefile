# Every target makes the environment it needs, once.  PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test test-port lint format bench faults fuzz clean

demo: .venv/installed
	$(BIN)/gm-jax condense --dataset mnist5k --ipc 1 --scheme multi-level --distance cosine+l2 \
	  --step-rule overfit --iterations 40 --batch-real 16 --out runs/demo --replace
	$(BIN)/gm-jax evaluate runs/demo --count 3 --epochs 150

test: .venv/installed-dev
	$(BIN)/pytest -n 2

# The PyTorch port that speed is measured against, held to the golden vectors.
test-port: .venv/installed-torch
	$(BIN)/pytest tests/test_torch_port.py tests/test_pt_file.py

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Time and memory of each part beside the PyTorch port, in one run: a table, and bench.json.
bench: .venv/installed-torch
	$(BIN)/python -m experiments.bench

# 20 real runs killed by SIGKILL and resumed, compared with an unbroken one byte by byte.
faults: .venv/installed
	$(BIN)/python -m experiments.faults

# Thousands of damaged and made-up files, of which each must end in one clear line.
fuzz: .venv/installed-torch
	$(BIN)/python -m experiments.fuzz

clean:
	rm -rf .venv

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gm_jax needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.venv/installed-torch: .venv/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) -e '.[torch]'
	@touch $@
