# Everything is set up here: a virtual environment of its own, nothing outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench fixtures clean

demo: ## the main job, from nothing, on a registry on this machine
	@PYTHON="$(PYTHON)" sh registry-fixtures/demo.sh

test: $(VENV)/.ready ## set-up and the tests
	$(BIN)/python -W error -m pytest -q

check: $(VENV)/.ready ## lint, types, and the tests with branch coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/coverage erase
	$(BIN)/python -W error -m coverage run -m pytest -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=$(COVERAGE)

COVERAGE := 95

bench: $(VENV)/.ready ## the figures, beside the peers that are installed; BENCH='--size 512 pull'
	PYTHONPATH=registry-fixtures $(BIN)/python -m tests.bench $(BENCH)

fixtures: $(VENV)/.ready ## the small fixtures again, byte for byte
	$(BIN)/python registry-fixtures/build.py

clean:
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[check]'
	touch $@
