# `make demo` and `make test` each do everything in a fresh clone: environment, installation, run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := demo
# An installation compiles them, where there is a compiler.
NATIVE := hatch_build.py storage/native/decode.c storage/native/lanes.h storage/native/mapped.h storage/native/building.py
# Processes that share the tests, file by file.
WORKERS ?= 2
# Extra arguments for pytest, such as ARGS="-k store -x".
ARGS ?=

.PHONY: demo test test-slow test-faults test-engines test-processors lint bench docs wheel constraints clean

$(VENV)/build.stamp: pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[build]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/build.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(PIP) install -c constraints.txt -e '.[dev,bench]'
	touch $@

# Builds the memory corpus of a small encyclopedia with small models that lie in the project, and reads it.
demo: $(VENV)/build.stamp
	$(BIN)/python -m examples.miniwiki demo $(DEMO)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m 'not slow and not faults and not engines' -n $(WORKERS) --dist loadfile $(ARGS)

# Minutes long: random kills, flips of every file, the peak of memory at 20,000 articles.
test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow $(ARGS)

# Minutes long: failing calls, power cuts, full disks; a line a class at the end. MEMCORPUS_FAULTS=all tries every call.
test-faults: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m faults tests/faults $(ARGS)

# Minutes long: Dask, Slurm, Prism and Beam's job service with workers that are killed; what is not there is skipped.
test-engines: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m engines -rs -s $(ARGS)

# The tests of what models compute, and of bytes that must be the same, as on other processors than this one.
BITS := $(addprefix tests/test_, $(addsuffix .py, quantizing codecs memory_encoder inference t5 retriever \
    reader_model reader_losses compiling golden train_codec build versions processors))
test-processors: $(VENV)/dev.stamp
	for isa in AVX2 AVX512; do \
	    XLA_FLAGS=--xla_cpu_max_isa=$$isa $(BIN)/python -m pytest -m 'not slow and not faults and not engines' $(BITS) $(ARGS) || exit 1; \
	done

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The other stores and encoders that ours are measured against come with it.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.sources
	$(BIN)/python -m benchmarks.cuts
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.encoder --retriever --shapes 304 608 1216 2432
	$(BIN)/python -m benchmarks.codecs

$(VENV)/docs.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[docs]'
	touch $@

# The site of docs/ and the docstrings, in site/; it loads nothing of another host. A warning is an error.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# One for every machine, and, where there is a compiler, one with native decoding for this system and processor.
wheel: $(VENV)/dev.stamp
	MEMCORPUS_NATIVE=off $(BIN)/python -m build --no-isolation --wheel
	$(BIN)/python -m build --no-isolation --wheel

# What is not installed here keeps its pin: that of the image of workers (Dockerfile), by
# `pip install --dry-run -c constraints.txt '.[build,dataflow]'`.
constraints: $(VENV)/dev.stamp
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > $(VENV)/frozen
	(head -2 constraints.txt; awk -F== 'NR == FNR { seen[tolower($$1)]; print; next } \
		/^[^#]/ && !(tolower($$1) in seen)' $(VENV)/frozen constraints.txt | LC_ALL=C sort -f) > $(VENV)/new
	mv $(VENV)/new constraints.txt

clean:
	rm -rf $(DEMO) dist build site .pytest_cache .mypy_cache .ruff_cache
