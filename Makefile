# The commands: `make demo`, `make test`, and `make test-all` with what takes longer. They set up what they need.
PYTHON ?= python3
VENV := .venv
DYNC_TESTS ?=

.PHONY: demo test test-all fast check clean

demo: $(VENV)/.ready
	$(VENV)/bin/python -m demo

test: fast
	$(VENV)/bin/pytest -m "engine and not long" -n 0 --durations=12

test-all: fast
	$(VENV)/bin/pytest -m engine -n 0 --durations=40

fast: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --cov --cov-report=term:skip-covered $(DYNC_TESTS)

check: $(VENV)/.ready
	$(VENV)/bin/pytest

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build
