# make demo   the main job on bundled real images
# make test   linters, types, import contract and tests, with a real napari viewer
# make docs   the documentation as a site in site/; open site/index.html
# make benchmark DATA="folder/set1 folder/set2"   all benchmarks; see benchmarks/README.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A Qt 6 window, and a screen to show it on.
QT_PACKAGES := xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 \
	libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 \
	libdbus-1-3 libfontconfig1 libglib2.0-0 fonts-dejavu-core
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: demo test lint docs benchmark clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.run
	$(BIN)/napari-sam-lora demo

test: lint
	@scripts/system-packages.sh $(QT_PACKAGES)
	OMP_NUM_THREADS=1 xvfb-run --auto-servernum --server-args="-screen 0 1400x1000x24" \
		$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: $(VENV)/.benchmark
	$(BIN)/python -m benchmarks $(DATA)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || scripts/system-packages.sh python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	@echo "Installing (PyTorch is large: a few minutes the first time) ..."
	$(PIP) --editable ".[all]"
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[all,dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) --editable ".[all,docs]"
	@touch $@

$(VENV)/.benchmark: $(VENV)/.run
	$(PIP) --editable ".[all,benchmark]"
	@touch $@

clean:
	rm -rf $(VENV) benchmark-output demo-output build dist site
