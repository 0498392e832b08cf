# The .venv below has no pip; where it is activated, python3 is its own, and the one that made it has pip.
PYTHON ?= $(shell python3 -m pip --version >/dev/null 2>&1 && echo python3 || \
	python3 -c 'import sys; print(sys._base_executable)')
PIP = $(PYTHON) -m pip --python .venv/bin/python --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo page tiny smoke test slow browser gpu weights-test check format docs bench tables tables-check

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

demo: .venv/.installed  ## edit a picture with the embedded model; writes out/demo.png
	@.venv/bin/python demos/first_edit.py

page: .venv/.page  ## open the page: methods side by side, sessions, seed search, training
	@.venv/bin/python -m editkit demo

tiny: .venv/.installed  ## train the embedded models from nothing, over what is there; goes on where it stopped
	@test -d out/tiny/vae || .venv/bin/python -m editkit.shapesworld.linear_autoencoder out/tiny/vae
	@.venv/bin/python -m editkit stages configs/tiny/stages.yaml

# Light imports, laws, every method's parts, and the pictures that edits of each method gave before.
SMOKE := tests/test_imports.py tests/test_flow.py tests/backbones/test_packing.py \
	tests/contract/test_records.py tests/contract/test_parts.py tests/test_regression.py
SHARED := --numprocesses logical --maxprocesses 4 --dist worksteal

smoke: .venv/.dev  ## run the tests that fail first, in less than a minute
	@.venv/bin/python -m pytest $(SMOKE)

test: .venv/.dev  ## run the tests that need neither long nor a GPU nor weights
	@.venv/bin/python -m pytest $(SHARED)

slow: .venv/.dev  ## run the tests that take long on a CPU
	@.venv/bin/python -m pytest -m slow $(SHARED)

browser: .venv/.dev  ## look at the page in Chromium, as a visitor does
	@command -v chromium >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y -qq chromium >/dev/null; } || \
		{ echo "There is no chromium here: run 'apt install chromium' (as root), then make again."; exit 1; }
	@set -e; for file in tests/browser/test_*.py; do .venv/bin/python -m pytest -m browser $$file; done  # a server for each

gpu: .venv/.dev  ## run the tests that need an accelerator: FLUX.1's 12 B parameters with random weights
	@.venv/bin/python -m pytest -m gpu -rs

weights-test: .venv/.dev  ## edit a photograph with the official weights that are here, and compare with diffusers
	@.venv/bin/python -m pytest tests/weights -m weights -rs

check: .venv/.dev docs  ## lint, format, types, import laws, spelling, links of the docs
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/typos

format: .venv/.dev  ## format, and fix what ruff can fix
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# --strict ends with an error (but not with --quiet) where a link or an anchor leads nowhere, or a page is in no menu.
docs: .venv/.dev  ## build the documentation site in site/, and check its links
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: .venv/.installed  ## time the sampler
	@.venv/bin/python benchmarks/sampler.py

tables: .venv/.dev  ## measure the tables of README and docs and write them; some with TABLES="methods faults"
	@.venv/bin/python -m benchmarks.tables $(TABLES)

tables-check: .venv/.dev  ## measure them, and fail where a figure is off by more than its interval
	@.venv/bin/python -m benchmarks.tables --check $(TABLES)

# One rule makes .venv; a stamp for each set of extras tells what is in it. torch goes first and alone, as pinned:
# resolved together with the rest, a newer one could bring gigabytes of CUDA along. pip stays outside, since a bare
# Debian's venv module cannot bring its own.
.venv/.dev: EXTRAS := [dev]
.venv/.page: EXTRAS := [demo]
.venv/.installed .venv/.page .venv/.dev: pyproject.toml constraints.txt
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
		{ echo "$(PYTHON) has no pip: run 'apt install python3-pip' (as root), then make again."; exit 1; }
	@echo "Installing editkit$(EXTRAS) into .venv; the first time takes a few minutes."
	@test -x .venv/bin/python || $(PYTHON) -m venv --without-pip .venv
	@$(PIP) torch
	@$(PIP) -e '.$(EXTRAS)'
	@touch $@
