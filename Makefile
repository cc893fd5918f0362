# Two commands for a fresh machine with Python 3.11: `make demo` and `make test`. Both set up .venv beside this file.

# The first of these that runs and is a version we support; a name on PATH alone may be a shim of another version.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test check format wheel oracle flower peers clean

demo: $(VENV)/.run
	$(BIN)/koinon demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

check: $(VENV)/.test
	@! git grep -nE '^(<{7}|>{7}) ' || { echo "finish this merge"; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel holds every file of the package that git knows, and nothing else.
wheel: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	git ls-files src/koinon | sed 's,^src/,,' | sort > dist/tracked
	$(BIN)/python -m zipfile --list dist/koinon-*.whl | sed -n 's,^\(koinon/[^ ]*\) .*,\1,p' | sort | diff dist/tracked -

$(VENV)/.run: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Koinon needs Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Koinon needs Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.run

# Ethereum's executable specification, which pins another coincurve than ours, for fuzz/evm.py.
ORACLE := fuzz/evm_oracle_constraints.txt
oracle: $(VENV)-oracle/.done

$(VENV)-oracle/.done: $(ORACLE)
	@test -n "$(PYTHON)" || { echo "Koinon needs Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)-oracle
	$(VENV)-oracle/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(ORACLE) ethereum-execution
	touch $@

# Flower, whose pins do not go with ours, for a test that trains its clients through our secure aggregation.
FLOWER := tests/privacy/flower_constraints.txt
flower: $(VENV)-flower/.done

$(VENV)-flower/.done: $(FLOWER)
	@test -n "$(PYTHON)" || { echo "Koinon needs Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(FLOWER) flwr blake3 msgspec safe-pysha3 uvloop psutil
	touch $@

# MPyC, and SPU with sf-sml, which need CPython 3.11 and older packages than ours, for `benchmarks/private.py --peers`.
PEERS := benchmarks/peers/constraints.txt
peers: $(VENV)-peers/.done

$(VENV)-peers/.done: $(PEERS)
	@command -v python3.11 >/dev/null || { echo "SPU needs CPython 3.11; install python3.11"; exit 1; }
	python3.11 -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(PEERS) spu mpyc gmpy2 pandas scikit-learn
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint $(PEERS) sf-sml
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oracle $(VENV)-flower $(VENV)-peers dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
