PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check slow soak bench install clean
demo: install
	$(BIN)/tooling demo demo

test: install
	$(BIN)/python -m pytest

test-all: install
	$(BIN)/python -m pytest -m 'not slow'

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'not slow'

slow: install
	$(BIN)/python -m pytest -m slow

SEED ?= 0
soak: install
	HF_HUB_DISABLE_PROGRESS_BARS=1 $(BIN)/python -m pytest -n 0 -s --timeout 7200 --soak $(SEED) tests/flow/soak

bench: install
	$(BIN)/python -m benchmarks.speed

install: .venv/installed

.venv/installed: pyproject.toml scripts/set_up.py scripts/install_system_libraries.sh
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or \
	    sys.exit("error: Python %d.%d: needs Python 3.11 to 3.13, for example: make PYTHON=python3.12" % v)'
	@$(PYTHON) scripts/set_up.py
	@touch $@

clean:
	rm -rf .venv build demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
