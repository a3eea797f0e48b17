# What a developer types (CONTRIBUTING.md). Commands are those of .venv if there is one, else of the active environment.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# what neither trains, samples nor resamples for long
QUICK := tests/cells tests/compute tests/datasets --ignore tests/cells/test_phantom.py \
	$(patsubst %,tests/diffusion/test_%.py,data randomness trajectories loss network objective optimizer gaussian timesteps) \
	$(patsubst %,tests/classifier/test_%.py,cross_validation mistakes) \
	$(patsubst %,tests/questions/test_%.py,descriptors errors_figure) \
	tests/statistics/test_comparison.py tests/studies/test_ablation_values.py \
	$(patsubst %,tests/test_%.py,contributing files config release report sentences)

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
