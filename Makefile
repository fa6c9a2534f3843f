# Every target sets up what it needs on a machine with Python 3.10 or later, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c tests/constraints.txt

.PHONY: help venv demo test lab bench course grade handout readme site clean
help:
	@echo "make demo   restore held-out photographs with the shipped weights (first time: install)"
	@echo "make lab    open the chapters in JupyterLab"
	@echo "make test   export, clean, run every notebook and every test"
	@echo "make bench  measure speed, as ratios"
	@echo "make course the seven assignments without solutions, into course/"
	@echo "make grade  grade a folder of submissions: make grade DIR=submissions"
	@echo "make handout one folder to install from without a network, into handout/"
	@echo "make readme write README.md from nbs/index.ipynb"
	@echo "make site   the documentation site, into _site/"

$(VENV)/.run: settings.ini setup.py tests/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lm4lv needs Python 3.10 or later: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[dev,site]'
	touch $@

venv: $(VENV)/.dev

demo: $(VENV)/.run
	$(BIN)/lm4lv demo

test: $(VENV)/.dev
	$(BIN)/python tests/run_all.py

$(VENV)/.lab: $(VENV)/.run
	$(PIP) -e '.[lab]'
	touch $@

lab: $(VENV)/.lab
	$(BIN)/jupyter lab nbs --config=docs/lab.py --LabApp.default_url=/lab/tree/index.ipynb

bench: $(VENV)/.run
	$(BIN)/lm4lv bench --json bench.json

$(VENV)/.classroom: $(VENV)/.run
	$(PIP) -e '.[classroom]'
	touch $@

course: $(VENV)/.classroom
	$(BIN)/python -m lm4lv.course.assignments release course

grade: $(VENV)/.classroom
	$(BIN)/python -m lm4lv.course.grading "$(DIR)" "$(OUT)" "$(or $(LIMIT),300)"

handout: $(VENV)/.classroom
	$(BIN)/python -m lm4lv.course.assignments handout handout

readme: $(VENV)/.dev
	$(BIN)/python tests/make_readme.py

$(VENV)/.site: $(VENV)/.run
	$(PIP) -e '.[site]'
	touch $@

site: $(VENV)/.site
	$(BIN)/python docs/make_site.py _site

clean:
	rm -rf $(VENV) build dist *.egg-info _site docs/_build
