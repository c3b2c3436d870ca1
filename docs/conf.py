"""How Sphinx builds the site; nothing is executed and nothing is fetched."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent / "extensions"))
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras_inits

project = "keras_inits"
author = "keras_inits authors"
version = release = keras_inits.__version__
language = "en"

extensions = [
    "docstrings",
    "executed_notebooks",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"keras_inits {release}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False

# Single backticks in docstrings are code, as in Keras's own.
default_role = "code"
add_module_names = False
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# .ci/notebooks.py executes the notebooks, once for the tests and for this site.
nb_execution_mode = "off"
nb_output_stderr = "remove"
