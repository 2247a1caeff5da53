# Everything runs in .venv; `make demo` and `make test` set it up on a bare machine.
# TORCH_INDEX chooses another build of torch, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cu128

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# processes that share a training: on a CPU of one thread each, which is faster than threads
PROCESSES ?= $(if $(shell command -v nvidia-smi),1,2)
TORCH := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo examples test test-all test-browser test-gpu lint types weights benchmarks clean

demo: $(STAMP)
	$(BIN)/unicond demo

examples: $(STAMP)
	$(BIN)/python -m examples

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-all: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not gpu and not hub"

test-browser: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser tests/studio

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/pydoclint --quiet src

types: $(STAMP)
	$(BIN)/pyright

# glibc gives large tensors back to the kernel after each step and faults them in again; kept, they cost nothing
weights: export MALLOC_MMAP_MAX_ = 0
weights: export MALLOC_TRIM_THRESHOLD_ = 1000000000000
weights: export MALLOC_TOP_PAD_ = 1000000000
weights: $(STAMP)
	$(BIN)/torchrun --nproc-per-node $(PROCESSES) --module unicond train all --publish src/unicond/weights

benchmarks: $(STAMP)
	$(BIN)/python -m benchmarks

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH) torch
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH) --editable ".[dev]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps rtmlib  # the opencv it asks for needs a desktop
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
