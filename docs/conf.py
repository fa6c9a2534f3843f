"""Settings of the documentation site; `make site` builds it (docs/make_site.py), docs/README.md says how it works."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent)) # for the extensions that lie beside this file
from gather import SETTINGS

project, author, release = SETTINGS['title'], SETTINGS['author'], SETTINGS['version']
project_copyright = SETTINGS['copyright']
extensions = ['myst_nb', 'sphinxcontrib.bibtex', 'sphinx.ext.githubpages', 'mathml']
root_doc = 'index'
nitpicky = True

nb_execution_mode = 'off' # stored outputs are shown: the build needs neither torch nor time
nb_ipywidgets_js = {} # live widgets would be fetched from elsewhere; their stored pictures are shown
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = 'Show the code', 'Hide the code'
nb_render_markdown_format = 'myst' # links in the tables that cells write lead to pages, too
myst_enable_extensions = ['dollarmath', 'amsmath', 'attrs_inline', 'attrs_block', 'html_image']
myst_heading_anchors = 4
myst_dmath_double_inline = True
bibtex_bibfiles = ['references.bib']
bibtex_reference_style = 'author_year'

maximum_signature_line_length = 90
add_module_names = False
python_use_unqualified_type_names = True

html_theme = 'sphinx_book_theme'
html_title = SETTINGS['title']
html_baseurl = SETTINGS['doc_host'] + SETTINGS['doc_baseurl'] + '/'
html_static_path = ['_static']
html_css_files = ['site.css']
html_math_renderer = 'mathml'
html_copy_source = False
html_theme_options = dict(
    repository_url=SETTINGS['git_url'], use_repository_button=True, use_download_button=False,
    home_page_in_toc=True, navbar_persistent=[], show_navbar_depth=1, collapse_navbar=True,
    show_toc_level=2, search_bar_text='Search',
    pygments_light_style='a11y-light', pygments_dark_style='a11y-dark')
