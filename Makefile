# make demo, make test and make lint need nothing but Python 3.10 to 3.12: the environment is made on the first call.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo/demo_000

.PHONY: demo test lint clean

.venv/user: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

.venv/developer: .venv/user requirements-dev.txt
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@

$(DEMO): | .venv/user
	$(BIN)/python -m custom demo_study demo

demo: $(DEMO)  ## segment a generated study with the weights in the repository
	$(BIN)/python -m monai.bundle run --config_file bundles/recoseg_seg/configs/inference.json \
		--bundle_root bundles/recoseg_seg --dataset_dir $(DEMO) --output_dir demo/results
	$(BIN)/python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz $(DEMO)/demo_000_seg.nii.gz

test: .venv/developer  ## the whole test suite
	$(BIN)/python -m pytest

lint: .venv/developer  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what the targets above made
	rm -rf .venv demo
