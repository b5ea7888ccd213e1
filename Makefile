# Everything runs in .venv, made on first use. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench schemas clean

demo: .venv/cpu  ## run the main job on the bundled clip with the bundled detector
	$(BIN)/onpace run configs/minimal.yaml

test: .venv/dev  ## every test that this machine can run; what fails beside others, as tests of pace may, runs once more alone
	$(BIN)/python -m pytest -n 2 --dist loadfile || $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

lint: .venv/dev  ## what CI checks besides tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev  ## pace against the bare engine and the usual script, side by side
	$(BIN)/python -m tests.benchmarks.bench_pipeline
	$(BIN)/python -m tests.benchmarks.bench_heads

schemas: .venv/dev  ## regenerate the committed JSON Schemas
	$(BIN)/python -m pipeline.config.load --schema > configs/onpace.schema.json
	$(BIN)/python -m pipeline.publish.schema > docs/onpace-messages.schema.json

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/cpu: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[cpu]"
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[cpu,dev]"
	@touch $@
