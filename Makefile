# Targets of the project; `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.installed
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
# a thread that waits must not spin: other processes may need the core
export OMP_WAIT_POLICY ?= PASSIVE
DOWNSCALER ?=
PARAMETERS ?=
# as it was written: neither make nor the shell reads its blanks, quotes and dollars
export IDA_RD_DOWNSCALER = $(value DOWNSCALER)

.PHONY: help install quickstart test notebooks figures book browser dryrun paper bench release lint clean
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv and install the package with pip, at the locked versions
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else f"needs Python 3.10 to 3.13, got {v}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e '.[dev]'
	@touch $@

quickstart: $(STAMP)  ## rank downscalers on real photographs, offline; DOWNSCALER=my_file.py:mine adds yours
	$(BIN)/python -m tools.quickstart $(PARAMETERS)

test: $(STAMP)  ## install and run the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

notebooks: $(STAMP)  ## re-execute every notebook in place and keep only what is stable
	$(BIN)/python -m tools.execute_notebooks $(NOTEBOOKS)
	$(BIN)/python -m tools.fill_tables

figures: $(STAMP)  ## redraw the figures of every notebook from the published rows
	$(BIN)/python -m tools.execute_notebooks --figures $(NOTEBOOKS)

book: $(STAMP)  ## build the web book from the committed notebooks, into book/_build/html
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e '.[book]'
	$(BIN)/python -m tools.book

browser: book  ## open every page of the book in Chromium and look for errors
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e '.[browser]'
	$(BIN)/python -m pytest -q -m browser

dryrun: $(STAMP)  ## what this machine lacks for the paper's setting of each notebook, and where to get it
	$(BIN)/python -m helpers.paper --dry-run

paper: $(STAMP)  ## run the paper's setting of notebooks 03, 06, 08 on what is here; PARAMETERS='-p n_images 100'
	$(BIN)/python -m helpers.paper $(PARAMETERS)

bench: $(STAMP)  ## time N_Q = 5 sampling and scoring against a plain loop, one core
	$(BIN)/python -m tools.bench

release: $(STAMP)  ## lay out rows, figures, environment and hashes in dist/, ready for an archive; DRAFT=1 before it is one
	$(BIN)/python -m tools.release $(if $(DRAFT),--draft)

lint: $(STAMP)  ## ruff: format check and lint, modules and notebooks
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

clean:  ## remove the environment, caches and what runs left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
