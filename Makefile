# What a person or CI does with this project, on a machine with Python 3.11 and make.
#
#   make demo                  the main job, printed
#   make test                  the test suite on TensorFlow
#   make test BACKEND=jax      ... on JAX; BACKEND=torch: on PyTorch
#   make test ARGS="-k lsuv"   ... with options for pytest
#   make test KERAS=3.15.1 VENV=.venv-3.15.1     ... on one version of Keras
#   make lint | format         ruff and mypy | rewrite the files in the house format
#   make notebooks             execute the notebooks
#   make docs                  build the documentation, warnings are errors
#   make bench                 run the benchmarks and print their tables
#   make clean                 remove .venv and what was built
#
# Every target installs what it needs into .venv once; a second run reuses it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BACKEND ?= tensorflow
KERAS ?=
CONSTRAINTS ?= .ci/constraints.txt
ARGS ?=

ifeq ($(filter $(BACKEND),tensorflow jax torch),)
$(error BACKEND must be tensorflow, jax or torch. Received: BACKEND=$(BACKEND))
endif

export KERAS_BACKEND = $(BACKEND)
export TF_CPP_MIN_LOG_LEVEL ?= 2

BIN = $(VENV)/bin
SOURCES = keras_inits tests $(wildcard benchmarks docs .ci/*.py)

.PHONY: demo test lint format notebooks docs bench clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.has-$(BACKEND)+demo
	$(BIN)/python -m keras_inits demo $(ARGS)

# What XLA has compiled once is not compiled again, by a later run either.
test: export JAX_COMPILATION_CACHE_DIR ?= $(abspath $(VENV))/.xla
test: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
test: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
test: $(VENV)/.has-$(BACKEND)+test
	$(BIN)/python -m pytest $(ARGS)

# ruff reads no setup.cfg, so its rules stand here; --isolated keeps others out.
# Left out: RUF001-003 (mathematical letters), RUF022 (plain sorted __all__ instead),
# SIM300 (tests say expected == actual).
RUFF = --isolated --target-version py311 --line-length 88
RULES = --select B,E,F,I,RUF,SIM,UP,W --ignore RUF001,RUF002,RUF003,RUF022,SIM300

lint: $(VENV)/.has-dev+test
	$(BIN)/ruff check $(RUFF) $(RULES) $(SOURCES)
	$(BIN)/ruff format $(RUFF) --check $(SOURCES)
	$(BIN)/mypy keras_inits

format: $(VENV)/.has-dev
	$(BIN)/ruff check $(RUFF) $(RULES) --fix-only --select I $(SOURCES)
	$(BIN)/ruff format $(RUFF) $(SOURCES)

notebooks: $(VENV)/.has-$(BACKEND)+notebooks
	$(BIN)/python .ci/notebooks.py $(ARGS)

docs: $(VENV)/.has-$(BACKEND)+docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html $(ARGS)
	@echo "Written: docs/_build/html/index.html"

bench: $(VENV)/.has-$(BACKEND)+test
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script $(ARGS); done

# A virtual environment, and in it one stamp per set of extras: .has-jax+test
# stands for an installed keras_inits[jax,test]. Newer metadata renew them.
comma := ,
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.has-%: $(VENV)/.made setup.cfg pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) \
	  --editable '.[$(subst +,$(comma),$*)]' $(if $(KERAS),'keras==$(KERAS)')
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info
	rm -rf docs/_build docs/tutorials/*.ipynb
	rm -rf .pytest_cache .hypothesis .mypy_cache */.mypy_cache .ruff_cache */.ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +
