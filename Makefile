PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check slow install clean
demo: install
	$(BIN)/tooling demo demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

slow: install
	$(BIN)/python -m pytest -m slow

install: .venv/installed

.venv/installed: pyproject.toml scripts/install_system_libraries.sh
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13), "needs Python 3.11 to 3.13: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	sh scripts/install_system_libraries.sh $(BIN)/python
	touch $@

clean:
	rm -rf .venv build demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
