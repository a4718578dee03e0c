# Everything goes through scripts/bootstrap: it sets up .venv the first time and is silent later.
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test check bench lab-packages derive clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1 \2/p' Makefile | \
		while read -r name sentence; do printf '  make %-14s %s\n' "$$name" "$$sentence"; done

demo: ## Show the whole story: disks, pools, volumes, a killed worker, the audit trail
	@scripts/bootstrap --lab
	@$(PY) -m hwbus.demo

test: ## Run every test that this machine can run, and name those it cannot
	@scripts/bootstrap --lab --promtool
	@$(PY) -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

check: ## Format, lint, types, import rules
	@scripts/bootstrap
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

bench: ## Print the figures, each beside what bare JetStream or bare LVM does in the same run
	@scripts/bootstrap --lab
	@$(PY) -m tests.benchmarks

lab-packages: ## Install the Debian packages that the tests need, above all of the kernel lab (as root)
	@scripts/bootstrap --lab --promtool

derive: ## Write what is derived: samples, AsyncAPI, tables of refusals and decisions
	@scripts/bootstrap
	@$(PY) -m schemas.sampling
	@$(PY) -m schemas.asyncapi
	@$(PY) -m schemas.explaining
	@$(PY) scripts/index_decisions.py

clean: ## Remove what was built, .venv included; your data stays
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
