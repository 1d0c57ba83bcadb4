from __future__ import annotations

from html.parser import HTMLParser

import pytest

from slurm_fsx_tools.monitoring.on_head.overview import Exporters, Other, Overview
from slurm_fsx_tools.monitoring.on_head.status_page import JOBS_SHOWN, render
from slurm_fsx_tools.slurm_state import SlurmJob, SlurmNode

VOID = ("meta", "br", "wbr", "link", "img", "input", "hr")
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their words, and whether each is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data


def overview(
    nodes: list[SlurmNode], jobs: list[SlurmJob] | None = None, problems: list[str] | None = None, **more: object
) -> Overview:
    taken = Overview(1.75e9, nodes, jobs or [], {}, None, Other([], {}, ""), problems or [])
    return taken._replace(**more)


def page(taken: Overview, cluster: str = "train") -> Page:
    return Page(render(taken, cluster).decode())


def test_nodes_that_are_alike_are_one_row_and_trouble_comes_first() -> None:
    nodes = [SlurmNode(f"n{number}", "idle", "", "all", 0, ("all",)) for number in range(10_000)]
    nodes += [SlurmNode("x1", "down", "*", "gpu", 8, ("gpu",), ("p5.48xlarge",)), SlurmNode("x2", "idle", "~")]
    data = render(overview(nodes), "train")
    assert len(data) < 20_000
    assert Page(data.decode()).rows[1:] == [
        ["down, no answer", "1", "x1", "gpu", "p5.48xlarge"],
        ["idle", "10000", "n[0-9999]", "all", ""],
        ["idle, powered off", "1", "x2", "", ""],
    ]


def test_a_set_of_nodes_can_be_given_to_slurm_as_it_stands() -> None:
    shown = page(overview([SlurmNode(name, "idle") for name in ("n1", "n3", "gpu-1")]))
    assert shown.rows[1][2] == "gpu-1,n[1,3]"


def test_exporters_are_counted_as_prometheus_has_them() -> None:
    known = Exporters({"node_exporter": 5}, {"node_exporter": ["n2", "n1"]})
    targets = {"n1": {"node_exporter": ("n1:9100", {})}}
    assert page(overview([], exporters=known, targets=targets)).rows[1:] == [["node_exporter", "1", "5", "2", "n[1-2]"]]
    assert page(overview([], targets=targets)).rows[1:] == [["node_exporter", "1", "not known", "not known", ""]]


def test_running_jobs_are_listed_newest_first_and_waiting_ones_counted() -> None:
    jobs = [SlurmJob(number, "ada", 1, nodes="n1", start_time_s=1.75e9 - 3700) for number in range(JOBS_SHOWN + 5)]
    seen = page(overview([], [*jobs, SlurmJob(900, "bob", 2)]))
    assert [row[0] for row in seen.rows[1:3]] == [str(JOBS_SHOWN + 4), str(JOBS_SHOWN + 3)]
    assert seen.rows[1][5] == "1 h 1 min"
    assert len(seen.rows) == JOBS_SHOWN + 1
    assert "And 5 older ones." in seen.words
    assert "jobs waiting1" in seen.words


@pytest.mark.parametrize("where", ["name", "user", "account", "state", "nodes", "image", "problem", "cluster", "node"])
def test_nothing_that_anybody_wrote_becomes_part_of_the_page(where: str) -> None:
    job = SlurmJob(7, "ada", 1, "phys", "gpu", "train", "RUNNING", "n1")
    if where in job._fields:
        job = job._replace(**{where: HOSTILE})
    nodes = [SlurmNode(HOSTILE if where == "node" else "n1", "idle")]
    other = Other([HOSTILE] if where == "image" else [], {}, "")
    taken = overview(nodes, [job], [HOSTILE] if where == "problem" else [], other=other)
    seen = page(taken, HOSTILE if where == "cluster" else "train")
    assert "<script>alert(1)</script>" in seen.words.lower()
    assert "\x1b" not in seen.words
    assert "\u202e" not in seen.words
    assert "script" not in {tag for tag, _ in seen.elements}


def test_nothing_is_fetched_from_elsewhere_and_nothing_runs() -> None:
    seen = page(overview([SlurmNode("n1", "idle")], [SlurmJob(7, "ada", 1, nodes="n1")]))
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in seen.elements}
    links = [attributes[key] for _, attributes in seen.elements for key in ("href", "src") if key in attributes]
    assert links == ["./"]
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]


def test_what_does_not_answer_is_said_before_anything_else() -> None:
    seen = page(overview([], problems=["Slurm does not answer"]))
    assert ("p", {"role": "alert"}) in seen.elements
    assert seen.words.index("Slurm does not answer") < seen.words.index("Nodes")
