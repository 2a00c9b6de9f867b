# make demo    the main job, end to end          make lint    ruff, mypy, clang-format
# make test    the fast tests                    make long    the long tests
# make bench   prunus against other scorers      make docs    the command's reference page
# make bench-peers   once before it: environments of the rivals, models, students, compiled models (an hour)
# make fuzz    the reader of model files
#
# Each makes .venv and installs what it needs; a second call finds it there. Variables, with what they stand for:
#   PYTHON=python3.12                  the interpreter to make .venv with (3.11 or newer; the first found unless said)
#   TORCH=torch==2.13.0                another build of torch, with pip's own options; README.md: one without CUDA
#   VENV=.venv-other                   another environment
#   ARGS="-k engine"                   more options for what is run
#   GLOBO=globo_ltr                    the real set of `make bench`: a folder of train, valid and test.parquet; where
#                                      unset, the one in PRUNUS_DATA or ../shared/data, if there is one
#   STUDENTS="generated=a.prunus"      other students of `make bench`, as SET=FILE; the first of a set is run by the rivals too
#   PRUNUS_TREEPROTO=treeproto.cpp     a rival that is one C++ file and not ours to ship; where unset, that beside ../shared/data

VENV   ?= .venv
TORCH  ?= torch==2.13.0
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ARGS   ?=
GLOBO  ?= $(wildcard $(or $(PRUNUS_DATA),../shared/data)/globo_ltr)
PRUNUS_TREEPROTO ?= $(wildcard ../shared/reference/prototypes/treeproto.cpp)
export PRUNUS_TREEPROTO

PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check
PINNED := $(PIP) install --quiet -c constraints.txt
# A process a core, eight at most. The tests of a file share what they trained, so a file is one process's; files go in the
# order of their names. ARGS="-n 0" runs all in one process.
PYTEST := $(VENV)/bin/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
SOURCES := $(shell find native -type f \( -name "*.cpp" -o -name "*.hpp" -o -name "*.h" -o -name "*.inl" \) 2>/dev/null)

# What the command needs, and what the tests need besides. Each is a file that says: this is installed.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: demo test long fuzz lint format bench bench-peers docs clean
.DELETE_ON_ERROR:

demo: $(RUN)
	$(VENV)/bin/prunus demo $(ARGS)

test: $(DEV)
	$(PYTEST) $(ARGS)

long: $(DEV)
	$(PYTEST) -m long $(ARGS)

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(SOURCES)

format: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(SOURCES)

HEADLINE = $(VENV)/bin/python benchmarks/headline.py $(if $(GLOBO),--globo $(GLOBO)) $(STUDENTS:%=--student %) $(ARGS)

bench-peers: $(DEV)
	$(HEADLINE) --prepare

bench: $(DEV)
	$(HEADLINE)

# atheris has wheels for Linux on x86-64; elsewhere the fuzzer runs without its guidance.
fuzz: $(DEV)
	-$(PINNED) --only-binary atheris atheris
	$(VENV)/bin/python tests/fuzz/run.py $(ARGS)

docs: $(DEV)
	$(VENV)/bin/python docs/make_cli.py

clean:
	rm -rf build out prunus-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch comes first and alone, so that its build is chosen here and not by whoever asks for it next.
$(VENV)/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): a few minutes the first time"
	$(PINNED) $(TORCH)
	$(PINNED) cmake ninja nanobind scikit-build-core
	@touch $@

$(RUN): $(VENV)/.torch pyproject.toml src/prunus/__init__.py CMakeLists.txt $(SOURCES)
	$(PINNED) --no-build-isolation -e '.[train,cli]'
	@touch $@

$(DEV): $(RUN)
	$(PINNED) --no-build-isolation -e '.[train,cli,dev]'
	@touch $@
