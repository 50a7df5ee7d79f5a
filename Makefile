# The only commands a newcomer needs; README.md says what each is for.
# Nothing has to be installed beforehand but Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Run by themselves: these take from ten minutes to hours, or need a file to read (nab.py).
LONG := benchmarks/faults.py benchmarks/soak.py benchmarks/nab.py
UV_VERSION := 0.13.9

.PHONY: setup check test demo bench

setup: .venv/ready

.venv/ready: pyproject.toml sdk/pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv sync --frozen --inexact --all-groups
	@touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright

test: setup
	$(BIN)/pytest $(ARGS)

demo: setup
	$(BIN)/pennytrace demo $(ARGS)

bench: setup
	@for script in $(filter-out $(LONG),$(wildcard benchmarks/*.py)); do $(BIN)/python $$script $(ARGS) || exit 1; done
