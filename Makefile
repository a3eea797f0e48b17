# What a developer types (CONTRIBUTING.md). Commands are those of .venv if there is one, else of the active environment.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# what neither trains, samples nor resamples for long
QUICK := tests/cells tests/datasets tests/figures --ignore tests/cells/test_phantom.py \
	$(patsubst %,tests/ddpm/test_%.py,device feed film keyed loss network objective optimizer process timesteps) \
	$(patsubst %,tests/evaluation/test_%.py,ablation_values choice descriptors folds lineage mistakes) \
	$(patsubst %,tests/test_%.py,contributing files parameters release report sentences)

.PHONY: install test-fast test lint docs

install:
	python3 -m venv .venv
	.venv/bin/pip install -r requirements.txt -e ".[study,test,docs]"

test-fast:
	pytest $(QUICK)

test:
	pytest

lint:
	pre-commit run --all-files

docs:
	mkdocs build --strict
	pytest -m docs -n 0 tests/test_site.py
