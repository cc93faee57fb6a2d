# The two commands: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
DYNC_TESTS ?=

.PHONY: demo test check clean

demo: $(VENV)/.ready
	$(VENV)/bin/python -m demo

test: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --cov --cov-report=term:skip-covered $(DYNC_TESTS)
	$(VENV)/bin/pytest -m engine -n 0 --durations=12

check: $(VENV)/.ready
	$(VENV)/bin/pytest

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build
