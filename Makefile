PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := .venv-torch
# Every file of benchmarks/ that is run by itself; the other two are what they share.
BENCHMARKS = $(filter-out %/side_by_side.py %/place_descriptors.py,$(wildcard benchmarks/*.py))

.PHONY: demo test check format bench docs clean

demo: $(VENV)/core
	$(BIN)/whence demo demo

test: $(VENV)/dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

check: $(VENV)/dev
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(TORCH)/ready
	for file in $(BENCHMARKS); do $(TORCH)/bin/python $$file $(ARGS) || exit; done

docs: $(VENV)/dev
	$(BIN)/python -m pytest tests/test_docs.py

clean:
	rm -rf $(VENV) $(TORCH) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fast]"
	touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group test --group check
	touch $@

$(TORCH)/ready: pyproject.toml
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(TORCH)/bin/uv pip install --quiet --python $(TORCH)/bin/python --editable ".[fast,torch]" scikit-learn scipy
	touch $@
