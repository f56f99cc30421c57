"Sphinx settings of the site that tools/site/build.py makes. Notebooks are shown as they are committed, not executed."

from configparser import ConfigParser
from pathlib import Path

from latex2mathml.converter import convert

ini = ConfigParser(delimiters=["="], interpolation=None)
ini.read(Path(__file__).parents[2] / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

project, author, copyright = "saematch", cfg["author"], cfg["copyright"]
version = release = cfg["version"]
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.githubpages"]
root_doc = "nbs/index"
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]
html_theme = "furo"
html_title = "saematch"
html_baseurl = cfg["doc_host"] + cfg["doc_baseurl"] + "/"
html_static_path = []
html_favicon = "favicon.svg"
html_show_sphinx = False
html_theme_options = dict(source_repository=cfg["git_url"], source_branch=cfg["branch"], source_directory="")
html_math_renderer = "mathml"


def inline(self, node):
    "A formula in a line as MathML, which browsers draw without a script."
    from docutils import nodes

    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(self, node):
    "A formula on a line of its own."
    from docutils import nodes

    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
