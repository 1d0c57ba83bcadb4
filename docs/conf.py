"""How Sphinx makes a site of this folder (``make docs``); the pages also read well on a code-hosting page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pygments import token
from pygments.lexer import RegexLexer
from sphinx.util import logging

from slurm_fsx_tools.version import VERSION

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
_OUTER_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)\)")

project = "slurm-fsx-tools"
author = "slurm-fsx-tools"
version = release = VERSION

extensions = ["myst_parser"]
myst_heading_anchors = 4  # links to headings work as on code-hosting pages, and a broken one is a warning
nitpicky = True  # whatever leads nowhere is a warning; `make docs` makes warnings errors

suppress_warnings = ["misc.highlighting_failure"]  # PromQL with colons
smartquotes = False  # --json is no dash

html_theme = "furo"
html_title = f"slurm-fsx-tools {version}"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_copyright = False
highlight_language = "none"  # of blocks that name none
pygments_style = "friendly"
pygments_dark_style = "monokai"


class Console(RegexLexer):
    """Commands behind a prompt, each perhaps with a remark behind it, and what they print."""

    tokens: ClassVar = {
        "root": [
            (r"^[\w@-]*[#$] ", token.Generic.Prompt, "command"),
            (r".*\n", token.Generic.Output),
        ],
        "command": [
            (r" {3,}.*", token.Comment),
            (r"\n", token.Text, "#pop"),
            (r"\S+|\s", token.Text),
        ],
    }


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("console", Console)
    app.connect("source-read", keep_outer_links)
    app.connect("source-read", add_contents)


def keep_outer_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Make text of links to files of the checkout that are no pages: there they lead, on the site they would not."""
    for text, path in _OUTER_LINK.findall(source[0]):
        if not (HERE / path).exists():
            logging.getLogger(__name__).warning("%s: there is no %s", page, path)
        source[0] = source[0].replace(f"[{text}]({path})", text)


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the side bar from the links of the front page, plain Markdown; a page that it misses is an error."""
    if page != "index":
        return
    for section in re.split(r"^(?=## )", source[0], flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0][len("## ") :]
        pages = re.findall(r"\]\(([\w-]+)\.md\)", section)
        if pages:
            source[0] += (
                f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(dict.fromkeys(pages)) + "\n```\n"
            )
