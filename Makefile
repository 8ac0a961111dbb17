# What a person types: set-up, demo, tests, the whole pipeline, checks. Each target first sets up what it needs; the
# stamps under .venv/.stamps make that quick when nothing has changed. The work itself is done by tools/ and difftop.
#
#   make demo PYTHON=python3.12         another Python (3.10 to 3.13)
#   make setup PIP_FLAGS='...'          more options for pip, e.g. an index that has CPU-only torch

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?=
PIP_FLAGS ?=
EXTRAS ?= ros,sim,metaworld,train,diffusion,datasets,theseus,dev
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check -qq $(PIP_FLAGS) -c constraints.txt
COLCON_BASE ?= build-colcon
# What builds, in this environment, the packages that come as source alone (fpsample, theseus-ai and its parts).
BUILD_TOOLS := setuptools wheel scikit-build-core pybind11 'cmake<4' ninja

.DEFAULT_GOAL := help
.PHONY: help setup demo test pipeline lint colcon clean distclean

help:
	@echo "make setup    system libraries, virtual environment in $(VENV), ROS messages"
	@echo "make demo     set up, then run the shipped policy closed loop on the simulated arm over ROS 2"
	@echo "make test     set up, then run all tests          (TESTS='test/infra -k dds' for some)"
	@echo "make pipeline record demonstrations -> train -> evaluate, from nothing"
	@echo "make lint     ruff and mypy"
	@echo "make colcon   build the ROS package with colcon and compare its message hashes with the pip build's"
	@echo "make clean    remove builds and caches            (distclean: the virtual environment too)"

setup: $(STAMPS)/packages $(STAMPS)/theseus
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

$(STAMPS)/packages: constraints.txt setup.py $(STAMPS)/venv
	@echo "setup: Python packages (extras $(EXTRAS), versions from constraints.txt); the first time this takes minutes"
	@$(PIP) $(BUILD_TOOLS)
	@$(PIP) --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

# theseus-ai declares scikit-sparse, which nothing here needs and which wants a system library: so without its declared
# needs, which the extra [theseus] names instead.
$(STAMPS)/theseus: constraints.txt $(STAMPS)/packages
	@$(PIP) --no-build-isolation --no-deps theseus-ai torchlie torchkin urdf-parser-py
	@touch $@

demo: setup
	@$(BIN)/difftop demo $(DEMO_ARGS)

test: setup
	@$(BIN)/python -m pytest $(or $(TESTS),test)

pipeline: setup
	@$(BIN)/difftop pipeline $(PIPELINE_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

$(STAMPS)/colcon: constraints.txt setup.py $(STAMPS)/packages
	@echo "setup: colcon and the ament build tools"
	@$(PIP) --no-build-isolation -e '.[$(EXTRAS),colcon]'
	@touch $@

colcon: setup $(STAMPS)/colcon
	@VENV=$(abspath $(VENV)) tools/colcon_build.sh $(COLCON_BASE)
	@$(BIN)/python tools/compare_type_hashes.py $(COLCON_BASE)/install/difftop_ros/share/difftop_ros

clean:
	rm -rf build-colcon build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find difftop_ros test tools launch -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
