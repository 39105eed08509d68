# Needs nothing but make and Python 3.11 or newer. The environment in .venv is made once and used again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types slow docs clean

demo: $(VENV)/installed
	$(BIN)/mcld demo

# Several processes of one thread each get more done than one of several threads.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-for-tests
	$(BIN)/mypy

slow: $(VENV)/installed-for-tests
	$(BIN)/pytest -m slow

# The site, in build/site. A warning is an error, and so is a link within the site that leads nowhere.
docs: $(VENV)/installed-for-docs
	$(BIN)/mkdocs build --strict --clean

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mcld needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which to use: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e .
	@touch $@

$(VENV)/installed-for-tests: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[test]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-for-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[docs]"
	@touch $@ $(VENV)/installed
