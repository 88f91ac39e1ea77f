PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
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

bench: $(VENV)/dev
	for file in $(BENCHMARKS); do $(BIN)/python $$file $(ARGS) || exit; done

docs: $(VENV)/dev
	$(BIN)/python -m pytest tests/test_docs.py

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fast]"
	touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[fast,torch,train,onnx,openvino,matchers,poselib]" --group test --group check
	touch $@
