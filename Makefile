# openherd: `make demo` to see it work, `make test` to check it, `make help` for the rest.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
JOBS ?= 2
# One thread a process: tests run JOBS processes side by side.
RUN := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
SOURCES := pyproject.toml setup.py constraints.txt

.PHONY: help demo test test-slow test-parallel test-crash test-browser test-harness docs lint format bench train-tiny train-speaker clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "openherd needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv

# What is needed to use the models, then what is needed to work on them: each once, until SOURCES change.
.venv/.installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[world]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[world,test,lint]'
	@touch $@

demo: .venv/.installed  ## caption held-out pictures with the model that ships, and question it
	@$(BIN)/python -m multimodal.world.tour demo

test: .venv/.installed-dev  ## the tests, but the slow ones
	$(RUN) $(BIN)/python -m pytest -n $(JOBS) -m "not slow and not gpu and not browser and not harness"

test-slow: .venv/.installed-dev  ## the slow tests
	$(RUN) $(BIN)/python -m pytest -n $(JOBS) -m "slow and not gpu"

test-parallel: .venv/.installed-dev  ## every layout of processes against one process
	$(RUN) $(BIN)/python -m pytest -n $(JOBS) tests/multimodal/training/parallel

test-crash: .venv/.installed-dev  ## a run that is killed twenty times against one that is not
	$(RUN) $(BIN)/python -m pytest tests/multimodal/training/test_crash.py

test-browser: .venv/.installed-dev  ## the page in a real Chromium (Debian: apt install chromium)
	$(RUN) $(BIN)/python -m pytest -m browser tests/multimodal/demo

# The harnesses pin much: they get an environment of their own, in front of this one's packages.
build/harness/.installed: .venv/.installed-dev
	$(BIN)/python -m venv --clear build/harness
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
	  > "$$(build/harness/bin/python -c 'import site; print(site.getsitepackages()[0])')/openherd.pth"
	build/harness/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  lm-eval accelerate editdistance 'filelock<4' jsonlines loguru openpyxl python-dotenv sympy tenacity \
	  zhconv zss
	build/harness/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --no-deps lmms-eval
	@touch $@

test-harness: build/harness/.installed  ## our models of lm-eval and lmms-eval, our metrics against theirs
	$(RUN) build/harness/bin/python -m pytest -m harness tests/multimodal/evaluation/harness

docs: .venv/.installed-dev  ## the site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: .venv/.installed-dev  ## style, types, spelling, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy language vision speech video multimodal
	$(BIN)/codespell
	$(BIN)/lint-imports

format: .venv/.installed-dev  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed-dev  ## time it against other implementations
	$(BIN)/python -m benchmarks

train-tiny: .venv/.installed-dev  ## make the model that ships again, from one seed (an hour)
	$(BIN)/python -m multimodal.world.train

train-speaker: .venv/.installed-dev  ## make the speaker that ships again, from one seed (an hour)
	$(BIN)/python -m multimodal.world.train_speaker

clean:  ## remove what was made, but the environment
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
