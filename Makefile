# make demo, make test and make lint only need Python 3.10 to 3.13: the environment is created on the first call.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo/demo_000
RAW_DEMO := demo/raw_000
LABEL := demo/monailabel

# Packages come from PyPI, with the hashes in the lock files. LOCKED=no installs the versions of the requirements files
# without hashes, for a pip that uses other wheels, such as PyTorch's own for the CPU.
LOCKED ?= yes
packages = $(if $(filter yes,$(LOCKED)),--require-hashes --requirement $(1).lock,--requirement $(1).txt)

LOCK_OPTIONS := --universal --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet --no-config

.PHONY: demo demo-raw monailabel test test-quick test-federated test-monailabel fuzz lint lock pack wheel clean

.venv/user: requirements.txt requirements.lock requirements-no-deps.txt requirements-no-deps.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(call packages,requirements)
	$(BIN)/pip install --quiet --no-deps $(call packages,requirements-no-deps)
	touch $@

.venv/developer: .venv/user requirements-dev.txt requirements-dev.lock
	$(BIN)/pip install --quiet $(call packages,requirements-dev)
	touch $@

.venv/federated: .venv/developer requirements-federated.txt
	$(BIN)/pip install --quiet --requirement requirements-federated.txt
	touch $@

# MONAI Label needs sam2, which these bundles do not use. Built by itself, it would first install another PyTorch to compile
# CUDA code with.
.clients/monailabel/made: tests/clients/monailabel/requirements.txt
	$(PYTHON) -m venv .clients/monailabel
	.clients/monailabel/bin/pip install --quiet --constraint $< torch torchvision setuptools
	SAM2_BUILD_CUDA=0 .clients/monailabel/bin/pip install --quiet --constraint $< --no-build-isolation sam2
	.clients/monailabel/bin/pip install --quiet --requirement $<
	touch $@

$(DEMO): | .venv/user
	$(BIN)/python -m custom demo_study demo

demo: $(DEMO)  ## segment a generated study with the weights in the repository
	PYTHONWARNINGS="ignore:parsing config_file:UserWarning" \
		$(BIN)/python -m monai.bundle run --config_file bundles/recoseg_seg/configs/inference.json \
		--bundle_root bundles/recoseg_seg --dataset_dir $(DEMO) --output_dir demo/results --report true
	$(BIN)/python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz $(DEMO)/demo_000_seg.nii.gz
	@echo "Open in a browser: $(CURDIR)/demo/results/demo_000/demo_000_report.html"

$(RAW_DEMO): | .venv/user
	$(BIN)/python -m custom demo_study demo --study_id raw_000 --raw true

demo-raw: $(RAW_DEMO)  ## the same of a study as a scanner makes it: with skull, not registered, in thick slices
	PYTHONWARNINGS="ignore:parsing config_file:UserWarning" \
		$(BIN)/python -m monai.bundle run --config_file bundles/recoseg_seg/configs/inference.json \
		--bundle_root bundles/recoseg_seg --dataset_dir $(RAW_DEMO) --output_dir demo/results --report true
	@echo "Open in a browser: $(CURDIR)/demo/results/raw_000/raw_000_report.html"

# monailabel is a script that runs the python of PATH. Newly trained weights are written to the bundle's runs/model.pt; the
# link makes the server use them.
$(LABEL)/monaibundle: | .clients/monailabel/made .venv/user
	rm -rf $(LABEL)/unfinished
	$(BIN)/python -m custom pack --output_dir $(LABEL)/unfinished/packed
	PATH="$(CURDIR)/.clients/monailabel/bin:$$PATH" monailabel apps --download --name monaibundle --output $(LABEL)/unfinished
	for file in $(LABEL)/unfinished/packed/*.zip; do \
		$(BIN)/python -m zipfile -e $$file $(LABEL)/unfinished/monaibundle/model || exit 1; done
	mkdir $(LABEL)/unfinished/monaibundle/model/recoseg_seg/runs
	cd $(LABEL)/unfinished/monaibundle/model/recoseg_seg && mv models/model.pt runs && ln -s ../runs/model.pt models/model.pt
	mv $(LABEL)/unfinished/monaibundle $@
	rm -r $(LABEL)/unfinished

# All files directly in one folder: MONAI Label does not search subfolders.
$(LABEL)/studies: | $(DEMO)
	mkdir -p $(LABEL)/unfinished_studies
	for name in flair t1 t2 t1ce; do cp $(DEMO)/demo_000_$$name.nii.gz $(LABEL)/unfinished_studies || exit 1; done
	mv $(LABEL)/unfinished_studies $@

monailabel: $(LABEL)/monaibundle $(LABEL)/studies  ## what a MONAI Label server needs: its app with both bundles, a study
	@echo "Start the server with the commands in docs/how-to/monai-label.md."

# Two processes, each with one thread: most tests are commands with small networks, which gain nothing from more threads.
# The tests of a file stay in one process, which shares what they need, such as the results of one inference.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: .venv/developer  ## the whole test suite
	$(PYTEST)

test-quick: .venv/developer  ## for development: without the bundles' command lines and other programs
	$(PYTEST) -m "not slow" --ignore tests/bundles --ignore tests/clients

test-federated: .venv/federated  ## federated training in NVFlare's simulator; make test skips it without NVFlare
	$(BIN)/python -m pytest tests/clients/federated

test-monailabel: .venv/developer .clients/monailabel/made  ## both bundles in a MONAI Label server; 8 GB on disk
	RECOSEG_MONAILABEL=.clients/monailabel $(BIN)/python -m pytest tests/clients/monailabel

fuzz: .venv/developer  ## 100,000 other damaged files for the readers than those of make test
	RECOSEG_FUZZ=100000 $(PYTEST) tests/fuzzing

lint: .venv/developer  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## versions and hashes of all packages, after a change of a requirements file; needs uv
	uv pip compile requirements.txt --python-version 3.10 $(LOCK_OPTIONS) --output-file requirements.lock
	uv pip compile requirements-dev.txt --constraint requirements.lock --python-version 3.10 $(LOCK_OPTIONS) \
		--output-file requirements-dev.lock
	uv pip compile requirements-no-deps.txt --no-deps --python-version 3.10 $(LOCK_OPTIONS) \
		--output-file requirements-no-deps.lock

pack: .venv/developer  ## both bundles as zips, and a CycloneDX list of the packages that they need
	$(BIN)/python -m custom pack --output_dir packed
	cat requirements.lock requirements-no-deps.lock | \
		$(BIN)/cyclonedx-py requirements - --output-reproducible --output-file packed/packages.cdx.json

wheel: .venv/developer  ## what `pip install .` installs, for computers without this project
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir packed .

clean:  ## remove the environments and the demo
	rm -rf .venv .clients demo
