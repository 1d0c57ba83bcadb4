"""The documentation as a site: what `make docs` lets through, and the README's links."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FRONT = "# Front\n\n## For all\n\n- [Page](page.md)\n"


def build(folder: Path, checkout: Path, front: str, page: str) -> subprocess.CompletedProcess[str]:
    """Make a site of two pages as the Makefile makes the real one."""
    docs = folder / "checkout/docs"
    docs.mkdir(parents=True)
    shutil.copy(checkout / "setup.cfg", docs.parent)
    shutil.copy(checkout / "docs/conf.py", docs)
    shutil.copytree(checkout / "docs/site", docs / "site")
    (docs / "index.md").write_text(front)
    (docs / "page.md").write_text(page)
    recipe = re.search(r"sphinx-build (.*)", (checkout / "Makefile").read_text())
    assert recipe is not None
    arguments = (
        recipe[1].replace("build/doctrees", str(folder / "doctrees")).replace("build/docs", str(folder / "site"))
    )
    command = [sys.executable, "-m", "sphinx", *arguments.split()]
    return subprocess.run(command, cwd=docs.parent, capture_output=True, text=True)


def test_sound_pages_become_a_site(tmp_path: Path, checkout: Path) -> None:
    links = "Back to [all](index.md#for-all), [below](#one-more-last), and [code](../setup.cfg)."
    page = f"# Page\n\n{links}\n\n## One more, last\n"
    done = build(tmp_path, checkout, FRONT, page)
    assert (done.returncode, done.stderr) == (0, "")
    made = (tmp_path / "site/page.html").read_text()
    assert 'href="index.html#for-all"' in made
    assert "setup.cfg" not in made
    # Whoever reads it fetches nothing from elsewhere.
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', made)


@pytest.mark.parametrize(
    ("front", "page", "complaint"),
    [
        pytest.param(FRONT, "# Page\n\n[gone](gone.md)\n", "gone.md", id="page"),
        pytest.param(FRONT, "# Page\n\n[gone](index.md#gone)\n", "'gone'", id="anchor-elsewhere"),
        pytest.param(FRONT, "# Page\n\n[gone](#gone)\n", "'gone'", id="anchor-here"),
        pytest.param(FRONT, "# Page\n\n[gone](../gone.txt)\n", "../gone.txt", id="file"),
        pytest.param(FRONT, "# Page\n\n![gone](gone.svg)\n", "gone.svg", id="picture"),
        pytest.param("# Front\n", "# Page\n", "page.md", id="page-that-nobody-finds"),
    ],
)
def test_a_link_that_leads_nowhere_is_an_error(
    front: str, page: str, complaint: str, tmp_path: Path, checkout: Path
) -> None:
    done = build(tmp_path, checkout, front, page)
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_of_pages_beside_the_site_lead_somewhere(name: str, checkout: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (checkout / name).read_text()):
        path, _, anchor = link.partition("#")
        if not link.startswith(("http://", "https://")):
            assert (checkout / path).exists(), link
        if anchor and path.endswith(".md"):
            headings = re.findall(r"^#+ (.+)$", (checkout / path).read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link
