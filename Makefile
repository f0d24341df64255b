# Targets for working in a checkout; plain `make` lists them. Everything is installed in .venv and nowhere else.

# The first of these that is Python 3.11, 3.12 or 3.13 and can make a venv.
PYTHON ?= python3.13 python3.12 python3.11 python3 python

BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv-tools/bin
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest test-newest format docs wheel-test audit sbom clean

help: ## list the targets
	@echo "usage: make TARGET [PYTHON=python3.12]    PYTHON: what .venv is made with, when it is made"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | while IFS='	' read -r name about; do \
		printf '  %-12s %s\n' "$$name" "$$about"; done

install: $(READY) ## make .venv, with diffsde (editable) and the tools in the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c '$(SUITABLE)' 2>/dev/null; then \
		for candidate in $(PYTHON); do \
			if "$$candidate" -c '$(SUITABLE)' 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "make: no Python 3.11, 3.12 or 3.13 with venv among: $(PYTHON); give one, e.g. make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "== making .venv with $$("$$found" --version)"; \
		"$$found" -m venv --clear .venv; \
	fi
	@echo "== installing diffsde and its tools in .venv (about 1 GB; some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## train a field, then sample it by the ODE and by an SDE (less than a minute)
	@echo "== training a field"
	$(BIN)/diffsde train path=ot objective=cfm
	@echo "== sampling it by the ODE"
	$(BIN)/diffsde sample sampler=heun steps=100
	@echo "== sampling it by an SDE with the same marginals"
	$(BIN)/diffsde sample sampler=em sigma=0.5

test test-all: $(READY)
	@echo "== formatting"
	@$(BIN)/ruff format --check
	@echo "== lint"
	@$(BIN)/ruff check
	@echo "== types"
	@$(BIN)/mypy
	@echo "== tests"
	$(BIN)/pytest -n 2 $(if $(filter test,$@),-m "not slow")
test: ## check formatting, lint and types, then run the tests that are not slow
test-all: ## the same, with the slow tests

test-lowest test-newest:
	@scripts/test_versions.sh $(subst test-,,$@) "$(PYTHON)" $(TESTS)
test-lowest: ## the tests with the lowest versions that pyproject.toml allows, in .venv-lowest (TESTS=FILE: fewer)
test-newest: ## the same with the newest, in .venv-newest

format: $(READY) ## format the code and mend what the linter can
	@echo "== formatting"
	@$(BIN)/ruff format
	@echo "== lint"
	@$(BIN)/ruff check --fix

docs: $(READY) ## build the documentation as a site, site/index.html
	@echo "== installing mkdocs in .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@echo "== building site/"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel-test: $(READY) ## build the wheel, install it in an empty venv and use it from elsewhere
	@scripts/check_wheel.sh $(BIN)/python

$(TOOLS)/.ready: $(READY)
	@echo "== installing pip-audit and cyclonedx-bom in .venv-tools"
	@$(BIN)/python -m venv .venv-tools
	@$(TOOLS)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.10,<3' 'cyclonedx-bom>=7.5,<8'
	@touch $@

audit: $(TOOLS)/.ready ## look for known vulnerabilities of the versions in constraints.txt
	@scripts/audit.sh $(TOOLS)

sbom: $(TOOLS)/.ready ## list what is installed in .venv as a CycloneDX file, sbom.json
	@$(BIN)/python scripts/sbom.py $(TOOLS)/cyclonedx-py sbom.json

clean: ## remove .venv, caches and build products; outputs/ stays
	@echo "== removing .venv, caches and build products"
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/diffsde/tests"
	@rm -rf .venv .venv-lowest .venv-newest .venv-tools sbom.json build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
