# run · test · lab · docs · bench · check: each builds .venv first if it is missing or stale.
PYTHON ?= python3
UV_VERSION = 0.13.9
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

EXAMPLE = data/example.h5
EXAMPLE_LABELS = data/example_labels.csv
WORK_DIR ?= data/work
JS = helpers/widgets/js
SITE = build/site
SITE_READY = $(VENV)/.site-ready

.PHONY: run test lab docs bench bench-models bench-particles encoder bench-masks bench-labels bench-labeller bench-memory bench-beamtime bench-map fuzz check check-js bundle pictures lock clean
.DEFAULT_GOAL := run

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} found; 3.11, 3.12 or 3.13 needed. Say which one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(EXAMPLE): | $(READY)
	$(BIN)/python -m helpers simulate --out $@ --patterns 1200 --seed 1 --labels $(EXAMPLE_LABELS)

run: $(READY) $(EXAMPLE)
	$(BIN)/python -m helpers run --patterns $(EXAMPLE) --labels $(EXAMPLE_LABELS) --work-dir $(WORK_DIR)

lab: $(READY) $(EXAMPLE)
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/01-inspect.ipynb

# The site: the pages and the executed notebooks, beside each other as in here.
docs: run $(SITE_READY)
	rm -rf $(SITE)
	mkdir -p $(SITE)/source/notebooks
	cp -r docs CHANGELOG.md $(SITE)/source
	cp notebooks/*.ipynb $(SITE)/source/notebooks
	cp $(WORK_DIR)/reports/*.ipynb $(SITE)/source/notebooks
	$(BIN)/sphinx-build -q -W --keep-going -c docs $(SITE)/source $(SITE)/html
	@echo "Site: $(SITE)/html/docs/index.html"

$(SITE_READY): requirements-docs.lock | $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r $<
	@touch $@

# SLOW=1: the long ones too, as .ci/run does. A file of tests stays in one process.
SLOW ?=
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(if $(SLOW),,-m "not slow")

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/python -m pytest -q tests/test_docs.py -k "not site and not formulas"
	@$(MAKE) --no-print-directory check-js

# Node alone runs the tests; the linter comes with npm. CI=true: node must be there.
check-js:
	@if command -v node >/dev/null; then node --test --test-reporter=dot $(wildcard tests/js/*.test.mjs); \
	elif [ "$$CI" = true ]; then echo "node is missing" >&2; exit 1; \
	else echo "JavaScript is not tested: node is missing"; fi
	@if command -v npm >/dev/null && $(MAKE) --silent $(JS)/node_modules/.ready; \
	then cd $(JS) && npm run --silent lint; \
	else echo "JavaScript is not linted: npm or its packages are missing"; fi

$(JS)/node_modules/.ready: $(JS)/package-lock.json
	cd $(JS) && npm ci --silent --no-audit --no-fund
	@touch $@

bundle: $(JS)/node_modules/.ready
	cd $(JS) && npm run --silent bundle

bench: $(READY)
	$(BIN)/python tests/bench/bench_ranking.py

bench-models: $(READY)
	$(BIN)/python tests/bench/bench_models.py

bench-particles: $(READY)
	$(BIN)/python tests/bench/bench_particles.py

encoder: $(READY)
	$(BIN)/python tests/bench/encoder_recipe.py

bench-masks: $(READY)
	$(BIN)/python tests/bench/bench_masks.py

bench-labels: $(READY)
	$(BIN)/python tests/bench/bench_active.py

bench-memory: $(READY)
	$(BIN)/python tests/bench/bench_memory.py

bench-map: $(READY)
	$(BIN)/python tests/bench/bench_map.py

bench-labeller: $(READY)
	PYTHONPATH=tests $(BIN)/python tests/bench/bench_labeller.py

bench-beamtime: $(READY)
	$(BIN)/python tests/bench/bench_beamtime.py
	$(BIN)/python tests/bench/bench_cluster.py

pictures: run
	PYTHONPATH=tests $(BIN)/python tests/browser/take_pictures.py $(WORK_DIR)

FUZZ_SECONDS ?= 600
fuzz: $(READY)
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

lock:
	$(BIN)/uv pip compile pyproject.toml --extra test --extra cluster --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra test --extra cluster --extra docs --constraint requirements.lock \
	    --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet \
	    $$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements.lock) -o requirements-docs.lock
	(sed -n '/^#/p' requirements-euxfel.lock; sed -n 's/^\([a-z-]*\)==.*/\1/p' requirements-euxfel.lock \
	    | $(BIN)/uv pip compile - --no-deps --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --quiet) > requirements-euxfel.new
	mv requirements-euxfel.new requirements-euxfel.lock

clean:
	rm -rf $(VENV) $(JS)/node_modules data/work $(EXAMPLE) $(EXAMPLE_LABELS)
