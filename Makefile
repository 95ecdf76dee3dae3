# make demo    install what is missing, then see the whole suite at work
# make test    everything: lint, types, proofs, code, worlds, tests
# make check   the fast loop: lint, types, imports, quick tests
# make gpu     on a CUDA machine: verified functions, training, quality and sampling there; writes docs/gpu.md

SHELL := /bin/bash
BIN := .venv/bin
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test check gpu lint venv clean

demo: venv
	@$(BIN)/seminar demo

test: venv lint
	@echo "== proofs, code and worlds, afresh"
	@$(BIN)/seminar verify --no-cache --jobs $(JOBS)
	@echo "== tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: venv lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow"

gpu: venv
	@$(BIN)/python -m benchmarks.gpu

lint: venv
	@echo "== lint, types, imports"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: .venv/bin/ruff format ."; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 3

venv:
	@./setup.sh

clean:
	rm -rf .cache out .mypy_cache .ruff_cache .pytest_cache .hypothesis
