# Every target is one line; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help install run test check fix bench image clean

PYTHON ?= python3
BIN := .venv/bin

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt && touch $@

install: .venv/installed  ## make .venv with everything in it

run: install  ## start a worker and an embedded Valkey, feed the sample tasks, show their results
	@$(BIN)/aworker run --embedded --feed config/sample-tasks.jsonl

test: install  ## run the whole test suite
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

check: install  ## format, lint, types, imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

fix: install  ## format, and mend what the linter can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: install  ## compare with the bare BRPOP loop
	@$(BIN)/aworker bench

image:  ## build the container image
	@docker build --tag aworker .

clean:  ## remove what was made
	@rm -rf .venv .aworker build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
