"""Builds the documentation site: `python docs/make_site.py [folder]`, by default _site."""
import json, shutil, sys, time
from pathlib import Path
from sphinx.cmd.build import main as sphinx
from api import write_api
from check_links import check
from gather import ROOT, SOURCE, WORK, colab_copy, gather

DOCS = ROOT/'docs'


def build(out):
    "Build into a folder; returns 0 if there was neither a warning nor a broken link."
    out, html = Path(out).resolve(), WORK/'html'
    for folder in (WORK, out): shutil.rmtree(folder, ignore_errors=True)
    chapters = gather()
    write_api()
    folders = ['-c', str(DOCS), '-d', str(WORK/'doctrees'), str(SOURCE), str(html)]
    failed = sphinx(['-q', '-b', 'html', '-W', '--keep-going', *folders])
    shutil.rmtree(html/'_sources', ignore_errors=True) # the notebooks once more, which colab/ holds
    shutil.move(html, out)
    for chapter in chapters: write_colab(chapter, out)
    faults = check(out)
    print(*faults, sep='\n')
    return int(bool(failed or faults))


def write_colab(chapter, out):
    "A chapter for Colab, into the site."
    path = out/'colab'/chapter.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(colab_copy(chapter), indent=1), encoding='utf-8')


if __name__ == '__main__':
    start, out = time.time(), Path(sys.argv[1] if len(sys.argv) > 1 else ROOT/'_site')
    failed = build(out)
    print(f'{out}: {time.time() - start:.0f} s')
    sys.exit(failed)
