"""Sphinx's settings of the web book; `python -m tools.book` lays out the pages and calls it."""

from pathlib import Path

project = "IDA-RD"
author = "The IDA-RD notebooks contributors"
html_title = "IDA-RD"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex", "sphinx_copybutton"]
exclude_patterns = ["_build", "**jupyter_execute", "**.ipynb_checkpoints"]

nb_execution_mode = "off"  # the pages are the committed, executed notebooks
nb_ipywidgets_js = {}
nb_number_source_lines = False
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # findings stand between sections, not below them
bibtex_bibfiles = ["refs.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True

html_theme = "sphinx_book_theme"
html_favicon = "_static/icon.svg"  # without one browsers ask for /favicon.ico
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["tables.js"]
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
mathjax_path = "tex-svg.js"  # of MathJax 3, one file without fonts, which `tools.book` copies from a package
html_context = {"default_mode": "auto"}
html_theme_options = {"use_download_button": True, "navbar_persistent": [], "home_page_in_toc": True}
html_extra_path = [str(Path(__file__).parent / "downloads")]
