# `make lab` and `make test` need python3 (3.11 or newer), make and git, and set up everything else themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Where `make lab` puts the learner's own copies of the lessons
DIR ?= lessons
# More words for pytest, JupyterLab or the notebooks to run: make test ARGS="-k ring"
ARGS ?=
WORKERS ?= 2

# What is installed is known by what it was installed from: a changed file gives another stamp, an unchanged one costs nothing
KEY := $(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(KEY)

# The libraries that people use instead of this course's own code, in an environment of their own: see peers/README.md
PEERS := .venv-peers
PEERS_PY := $(PEERS)/bin/python
PEERS_PIP := $(PEERS_PY) -m pip install --quiet --disable-pip-version-check --constraint peers/constraints.txt
PEERS_READY := $(PEERS)/.ready-$(shell cat pyproject.toml peers/requirements.txt peers/estimators.txt peers/constraints.txt peers/build_horovod.py 2>/dev/null | cksum | cut -d' ' -f1)

.PHONY: help lab test test-all test-peers lessons export check docs bench bench-peers clean setup peers constraints

help: ## What can be made
	@echo "make lab        copy the lessons into ./$(DIR) and open them in JupyterLab"
	@echo "make test       run the tests that a change must pass (a few minutes)"
	@echo "make test-all   the same, and the heavy ones, and those of test-peers"
	@echo ""
	@echo "To change the course:"
	@echo "make export     write the package, its tests, README and sidebar from the notebooks"
	@echo "make lessons    run notebooks for real and save what they print (all, or ARGS=nbs/...)"
	@echo "make check      fail if anything that is written from the notebooks differs from what they give"
	@echo "make docs       build the site into _docs/"
	@echo "make bench      run benchmarks/*.py (ARGS=--save keeps the results and draws them)"
	@echo "make peers      DeepSpeed, FairScale, Horovod and Megatron-core in $(PEERS) (once; compiles Horovod, which takes minutes)"
	@echo "make test-peers do one job with each of them, and compare the weights"
	@echo "make bench-peers  time DDP against Horovod, and other estimators of memory and time against ours"
	@echo "make clean      remove what was built (not $(VENV), not $(PEERS), not $(DIR))"
	@echo "make constraints  resolve all versions anew into constraints.txt"

setup: $(READY)

$(READY): | $(PY)
	@echo "Installing what the course needs into $(VENV) (once; several minutes and about 2 GB, more where PyTorch comes with CUDA)"
	@echo "  1 of 2  PyTorch"
# First and alone: where a build without CUDA is on offer, nothing later may pull in the big one
	@$(PIP) setuptools torch
	@echo "  2 of 2  the course, JupyterLab, and what tests and site need"
	@$(PIP) --no-build-isolation --editable ".[lab,dev,docs]"
	@rm -f $(VENV)/.ready-*
	@touch $@
	@echo "  done"

$(PY) $(PEERS_PY):
	@python=""; for candidate in $${PYTHON:-} python3 python3.13 python3.12 python3.11; do \
	  if command -v $$candidate >/dev/null && $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "The course needs Python 3.11 or newer, and there is $$(python3 --version 2>/dev/null || echo none). Install one, or say where it is: make lab PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Making a virtual environment in $(@:%/bin/python=%) with $$($$python --version)"; \
	$$python -m venv $(@:%/bin/python=%) || { rm -rf $(@:%/bin/python=%); echo "A virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

lab: $(READY) ## Lessons in JupyterLab
	@$(VENV)/bin/fsdl-course lab $(DIR) $(ARGS)

test: $(READY)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow" --timeout 120 $(ARGS)

test-all: $(READY)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --timeout 600 $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-peers)

peers: $(PEERS_READY) ## DeepSpeed, FairScale and Horovod

$(PEERS_READY): | $(PEERS_PY)
	@echo "Installing what people use instead of this course's code into $(PEERS) (once; 1.2 GB and a few minutes, and 5 to 10 more to compile Horovod unless its wheel is in the cache)"
	@echo "  1 of 4  PyTorch, and what Horovod is built with"
# First and alone: where a build without CUDA is on offer, nothing later may pull in the big one
	@$(PEERS_PIP) setuptools wheel torch
	@$(PEERS_PIP) cffi cloudpickle cmake packaging psutil pyyaml
	@echo "  2 of 4  Horovod: its wheel from the cache, or compiled"
	@wheels=$$(nice $(PEERS_PY) peers/build_horovod.py); $(PEERS_PIP) --no-deps --no-index --force-reinstall "$$wheels"/horovod-*.whl
	@echo "  3 of 4  DeepSpeed, FairScale and pytest"
	@$(PEERS_PIP) --no-build-isolation --requirement peers/requirements.txt
# Asks for years-old versions of what it does not need to count bytes
	@$(PEERS_PIP) --no-deps --requirement peers/estimators.txt
	@echo "  4 of 4  the course itself"
	@$(PEERS_PIP) --no-build-isolation --no-deps --editable .
	@$(PEERS_PY) -W ignore -c "import deepspeed, fairscale, fsdl_course, horovod.torch" >/dev/null || { echo "One of the libraries can't be imported; remove $(PEERS) and run make peers again" >&2; exit 1; }
	@rm -f $(PEERS)/.ready-*
	@touch $@
	@echo "  done"

test-peers: $(PEERS_READY)
	@$(PEERS_PY) -m pytest peers -p no:cacheprovider --timeout 600 $(ARGS)

bench-peers: $(PEERS_READY)
	@$(PEERS_PY) peers/bench_horovod.py $(ARGS)
	@$(PEERS_PY) benchmarks/estimators.py $(ARGS)

lessons: $(READY)
	@$(PY) -m tools.run $(ARGS)

export: $(READY)
	@$(PY) -m tools.generate

check: $(READY)
	@$(PY) -m tools.check

docs: $(READY)
	@$(PY) -m tools.docs $(ARGS)

bench: $(READY)
	@shopt -s nullglob; scripts=(benchmarks/*.py); [ $${#scripts[@]} -gt 0 ] || echo "There are no benchmarks yet."; \
	for script in "$${scripts[@]}"; do [ "$$script" != benchmarks/common.py ] || continue; echo "$$script"; $(PY) $$script $(ARGS); done
	@[[ " $(ARGS) " != *" --save "* ]] || $(PY) -m tools.ratios

clean:
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .hypothesis .make
	find . -name __pycache__ -not -path "./$(VENV)/*" -not -path "./$(PEERS)/*" -prune -exec rm -rf {} +

# In an environment of its own and without the old constraints; a build's label such as +cpu is no part of the version
constraints:
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(MAKE) --no-print-directory "$$scratch/bin/python" VENV="$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --disable-pip-version-check setuptools torch==2.13.0; \
	"$$scratch/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[lab,dev,docs]"; \
	{ echo "# Every version that make installs, resolved by: make constraints"; \
	  "$$scratch/bin/python" -m pip freeze --all --exclude-editable --exclude pip | sed -E 's/\+cpu$$//'; } > "$$scratch/constraints.txt"; \
	mv "$$scratch/constraints.txt" constraints.txt
