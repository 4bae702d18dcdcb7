# make demo   pre-train on procedural aerial scenes, minutes on a laptop
# make test   full environment (compiled operators) and all tests
# make faults  faults injected into whole runs; writes docs/reliability.md
# make soak   long runs, forty minutes; writes their figures to docs/reliability.md
# make lint   style and types
# make docs   the documentation as a site, in site/; a warning is an error
# Both environments live in .venv; every target can be interrupted and repeated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.11.0 torchvision==0.26.0
PIP := $(BIN)/python -m pip
DEMO_DIR ?= demo
# Two processes, each with a run of neighbours, so that what the tests of a file share
# is made once; one that has finished takes over half of what the other has left.
SIDE_BY_SIDE := -n 2 --dist worksteal
# OpenCV as the OpenMMLab packages ask for it needs a desktop's graphics libraries;
# this puts the same version without windows in its place.
HEADLESS := version=$$($(PIP) show opencv-python 2>/dev/null | sed -n 's/^Version: //p'); \
	if [ -n "$$version" ]; then \
		$(PIP) uninstall -q -y opencv-python && $(PIP) install -q --force-reinstall \
			--no-deps "opencv-python-headless==$$version"; fi

.PHONY: demo test test-slow faults soak lint docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/core-ready
	$(BIN)/python tools/demo.py $(DEMO_DIR)

test: $(VENV)/full-ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(VENV)/full-ready
	$(BIN)/python -m pytest -m 'slow or properties' --hypothesis-profile thorough

faults: $(VENV)/full-ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/faults -m faults \
		--reliability docs/reliability.md

soak: $(VENV)/full-ready
	$(BIN)/python -m pytest tests/soak -m soak --soak-page docs/reliability.md

lint: $(VENV)/full-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/full-ready
	$(BIN)/mkdocs build

$(VENV)/created:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found;" \
		"install Python 3.10 or newer (apt install python3 python3-venv)," \
		"or name it: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: $$($(PYTHON) --version) is too old; 3.10 or newer is needed:" \
		"make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "error: Python's venv module" \
		"is missing; apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip
	touch $@

$(VENV)/torch-ready: $(VENV)/created requirements/build.txt
	$(PIP) install -q $(TORCH) -r requirements/build.txt
	touch $@

# Without operators: quick, and enough for pre-training, classification,
# segmentation and change detection.
$(VENV)/core-ready: $(VENV)/torch-ready requirements/mminstall.txt requirements/runtime.txt setup.py
	$(PIP) install -q --no-cache-dir -r requirements/mminstall.txt
	$(PIP) install -q --no-build-isolation -e .
	$(HEADLESS)
	touch $@

# pip's cache may hold mmcv built without operators: it is left out here.
$(VENV)/full-ready: $(VENV)/core-ready requirements/optional.txt requirements/docs.txt \
		requirements/tests.txt
	@command -v g++ >/dev/null || { echo "error: a C++ compiler is needed to build" \
		"mmcv's operators; apt install build-essential python3-dev" >&2; exit 1; }
	$(BIN)/python -c 'import mmcv._ext' 2>/dev/null || MMCV_WITH_OPS=1 \
		PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install -q --no-cache-dir --no-deps \
		--no-build-isolation --force-reinstall \
		"$$(grep -x 'onedl-mmcv.*' requirements/mminstall.txt)"
	$(PIP) install -q -r requirements/optional.txt -r requirements/docs.txt \
		-r requirements/tests.txt
	$(HEADLESS)
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_DIR) site
