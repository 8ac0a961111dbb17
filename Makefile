# What a person types: set-up, demo, tests, the whole pipeline, checks. Each target first sets up what it needs; the
# stamps under .venv/.stamps make that quick when nothing has changed. The work itself is done by tools/ and difftop.
#
#   make demo PYTHON=python3.12         another Python (3.10 to 3.13)
#   make setup PIP_FLAGS='...'          more options for pip, e.g. an index that has CPU-only torch

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?=
PIP_FLAGS ?=
EXTRAS ?= ros,sim,drake,isaac,metaworld,dmcontrol,rivals,train,diffusion,datasets,lerobot,view,theseus,dev,fuzz,docs
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
INSTALL = $(BIN)/python tools/install_packages.py $(PIP_FLAGS)
COLCON_BASE ?= build-colcon
PYTHONS ?= 3.10 3.11 3.12 3.13
.DEFAULT_GOAL := help
.PHONY: help setup demo test matrix gpu fuzz faults pipeline lint docs colcon clean distclean

help:
	@echo "make setup    system libraries, virtual environment in $(VENV), ROS messages"
	@echo "make demo     set up, then run the shipped policy closed loop on the simulated arm over ROS 2"
	@echo "make test     set up, then run all tests          (TESTS='test/infra -k dds' for some)"
	@echo "make matrix   set up and test under each Python that is here, in .venv-3.x   (PYTHONS='3.10 3.13')"
	@echo "make gpu      everything that takes a GPU: tests, solves, training, the node; a table (without one: says what)"
	@echo "make fuzz     feed changed inputs to loaders and decoders  (FUZZ_ARGS='--seed 7 --inputs 5000')"
	@echo "make faults   put faults into a running policy node and judge its commands  (FAULTS_ARGS='--only cloud --seed 7')"
	@echo "make pipeline record demonstrations -> train -> evaluate, from nothing"
	@echo "make lint     ruff, mypy and the import rules"
	@echo "make docs     the documentation as a site in site/, with the API; fails on a broken link"
	@echo "make colcon   build the ROS package with colcon and compare its message hashes with the pip build's"
	@echo "make clean    remove builds and caches            (distclean: the virtual environment too)"

setup: $(STAMPS)/packages
	@if [ -n "$(PYTHON)" ] && [ "$$($(PYTHON) -V)" != "$$($(BIN)/python -V)" ]; then \
	  echo "setup: $(VENV) has $$($(BIN)/python -V), not the $$($(PYTHON) -V) asked for: 'make distclean' first" >&2; \
	  echo "setup: or keep both and add VENV=.venv-other" >&2; exit 2; fi
	@$(BIN)/python tools/build_messages.py

$(STAMPS)/system: tools/system_packages.sh
	@tools/system_packages.sh
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/venv: tools/find_python.sh | $(STAMPS)/system
	@if [ ! -x $(BIN)/python ]; then \
	  python="$$(tools/find_python.sh $(PYTHON))" || exit 2; \
	  echo "setup: virtual environment in $(VENV) with $$python ($$($$python -V))"; \
	  "$$python" -m venv $(VENV) || exit 2; \
	fi
	@touch $@

$(STAMPS)/packages: constraints.txt setup.py tools/install_packages.py $(STAMPS)/venv
	@$(INSTALL) --extras $(EXTRAS)
	@touch $@

demo: setup
	@$(BIN)/difftop demo $(DEMO_ARGS)

test: setup
	@$(BIN)/python -m pytest -n logical $(or $(TESTS),test)

matrix:
	@for version in $(PYTHONS); do \
	  python="$$(command -v python$$version)" && "$$python" -V >/dev/null 2>&1 || \
	    { echo "matrix: no python$$version here, left out"; continue; }; \
	  $(MAKE) test VENV=.venv-$$version PYTHON="$$python" TESTS="$(or $(TESTS),test)" || exit 1; \
	done

gpu: setup
	@$(BIN)/python -m benchmarks.gpu $(GPU_ARGS)

fuzz: setup
	@$(BIN)/python -m tools.fuzz $(FUZZ_ARGS)

faults: setup
	@$(BIN)/python -m tools.faults $(FAULTS_ARGS)

pipeline: setup
	@$(BIN)/difftop pipeline $(PIPELINE_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# Not --quiet: what it does not say it does not count either, and a broken link would pass.
docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "docs: site/index.html"

$(STAMPS)/colcon: constraints.txt setup.py tools/install_packages.py $(STAMPS)/packages
	@$(INSTALL) --extras colcon
	@touch $@

colcon: setup $(STAMPS)/colcon
	@VENV=$(abspath $(VENV)) tools/colcon_build.sh $(COLCON_BASE)
	@$(BIN)/python tools/compare_type_hashes.py $(COLCON_BASE)/install/difftop_ros/share/difftop_ros

clean:
	rm -rf build-colcon build install log site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find difftop_ros test tools launch -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
