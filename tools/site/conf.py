"Sphinx settings of the site that tools/site/build.py makes. Notebooks are shown as they are committed, not executed."

import re
from configparser import ConfigParser
from functools import cache
from pathlib import Path

from latex2mathml.converter import convert
from sphinx.search.en import SearchEnglish

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


@cache
def navigation(builder):
    """Furo's tree of all pages in pieces, at odd places those that differ from page to page; the entries that differ.

    A piece that differs is a letter and the number of an entry: h its address, a what says that it is the current page,
    c what says that it leads there, o what unfolds it; u and the number of a list.
    """
    from bs4 import BeautifulSoup
    from furo.navigation import get_navigation_tree
    from sphinx.environment.adapters.toctree import global_toctree_for_doc

    how = dict(collapse=False, titles_only=True, maxdepth=-1, includehidden=True)
    made = global_toctree_for_doc(builder.env, "search", builder, tags=builder.tags, **how)
    soup = BeautifulSoup(get_navigation_tree(builder.render_partial(made)["fragment"]), "html.parser")
    number = {id(tag): k for kind in ("li", "ul") for k, tag in enumerate(soup.find_all(kind))}
    address, leads = [], {}
    for k, entry in enumerate(soup.find_all("li")):
        link, fold = entry.find("a", recursive=False), entry.find("input", recursive=False)
        ways = {f"{'c' if up.name == 'li' else 'u'}{number[id(up)]}" for up in entry.find_parents(["li", "ul"])}
        leads[link["href"]] = k, ways
        address.append(link["href"])
        entry["class"], link["class"], link["href"] = (
            [*entry["class"], f"@c{k}@"],
            [f"@a{k}@", *link["class"]],
            f"@h{k}@",
        )
        if fold:
            fold["name"] += f"@o{k}@"
    for k, several in enumerate(soup.find_all("ul")):
        several["class"] = [f"@u{k}@"]
    return re.split(r"@([hacou]\d+)@", str(soup)), address, leads


def tree_of(builder, page):
    "The tree as Furo makes it for one page."
    from sphinx.util.osutil import relative_uri

    pieces, address, leads = navigation(builder)
    here = builder.get_target_uri(page)
    own, ways = leads.get(here, (None, set()))

    def piece(name):
        kind, k = name[0], int(name[1:])
        if kind == "h":
            return "#" if k == own else relative_uri(here, address[k])
        if kind == "o":
            return '" checked="' if k == own or f"c{k}" in ways else ""
        if k == own and kind in "ac":
            return "current current-page" if kind == "c" else "current"
        return "current" if name in ways else ""

    return "".join(piece(p) if k % 2 else p for k, p in enumerate(pieces))


def without_tree(app, page, template, context, doctree):
    "Furo would have Sphinx make the tree of all pages for each page, and parse it: most of the time of a build."
    if "toctree" in context:
        context["toctree"] = lambda **_: ""


def with_tree(app, page, template, context, doctree):
    "The tree made once."
    context["furo_navigation_tree"] = tree_of(app.builder, page)


class Search(SearchEnglish):
    "English as Sphinx searches it. Each word is brought to its stem once."

    def __init__(self, options):
        super().__init__(options)
        self.stem = cache(self.stem)


def setup(app):
    app.add_search_language(Search)
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    app.connect("html-page-context", without_tree, priority=400)  # Furo's own has 500
    app.connect("html-page-context", with_tree, priority=600)
