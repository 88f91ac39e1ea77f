PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Every file of benchmarks/ that is run by itself; the other two are what they share.
BENCHMARKS = $(filter-out %/side_by_side.py %/place_descriptors.py,$(wildcard benchmarks/*.py))

PRESET ?= small

FEDERATED := .venv-federated

.PHONY: demo serve test check federated format bench docs site release clean

demo: $(VENV)/core
	$(BIN)/whence demo demo

# The page over the demo's city: its photos to be dropped lie in demo/city/queries.
serve: $(VENV)/server
	[ -f demo/city/world.json ] || $(BIN)/whence world city demo/city --preset $(PRESET)
	$(BIN)/whence index demo/city/database --db demo/database.whence
	$(BIN)/whence serve --db city=demo/database.whence --open $(ARGS)

test: $(VENV)/dev $(FEDERATED)/made
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=90

# Flower's bounds on other packages fight ours: it lives in an environment of its own.
federated: $(FEDERATED)/made

check: $(VENV)/dev
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/dev
	for file in $(BENCHMARKS); do $(BIN)/python $$file $(ARGS) || exit; done

docs: $(VENV)/dev
	$(BIN)/python -m pytest tests/ground/test_docs.py

# The documentation as pages to browse, in build/site; a link that leads nowhere ends it.
site: $(VENV)/dev
	$(BIN)/mkdocs build --strict --quiet

# The wheel and the source distribution, built, and each installed where nothing else is and asked where a photo was taken.
release: $(VENV)/core
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/python tools/check_release.py dist $(ARGS)

clean:
	rm -rf $(VENV) $(FEDERATED) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fast]" "uv>=0.7"
	touch $@

$(VENV)/server: $(VENV)/core
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[fast,server]"
	touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[fast,raw,hdf5,torch,train,onnx,openvino,matchers,poselib,video,earth,mesh,topology,language,server,cloud,cluster,milvus,postgres]" --group test --group check --group docs
	touch $@

$(FEDERATED)/made: pyproject.toml
	[ -x $(VENV)/bin/uv ] || $(MAKE) $(VENV)/core
	[ -x $(FEDERATED)/bin/python ] || $(BIN)/uv venv --quiet --python $(BIN)/python $(FEDERATED)
	$(BIN)/uv pip install --quiet --python $(FEDERATED)/bin/python --group federated
	$(BIN)/uv pip install --quiet --python $(FEDERATED)/bin/python --no-deps --editable .
	touch $@
