from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_fsx_tools.errors import InvalidEnvironment
from slurm_fsx_tools.jobenv import (
    HEADER,
    SCOPES,
    VERBS,
    JobEnv,
    Operation,
    apply_operations,
    format_operations,
    parse_operations,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
# What os.environ can hold: any bytes but NUL, here also without line breaks.
VALUES = st.binary(max_size=60).map(
    lambda data: data.replace(b"\n", b"").replace(b"\0", b"").decode("utf-8", "surrogateescape")
) | st.text("ab:", max_size=8)


@st.composite
def operations(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> Operation:
    verb = draw(st.sampled_from(VERBS))
    return Operation(verb, draw(names), "" if verb == "unset" else draw(VALUES), draw(st.sampled_from(SCOPES)))


@given(st.lists(operations()))
def test_a_round_trip_through_the_file_is_exact(written: list[Operation]) -> None:
    assert parse_operations(format_operations(JobEnv(written))) == written


@given(st.binary())
def test_any_bytes_can_be_read_and_what_was_read_can_be_written_again(data: bytes) -> None:
    for content in (data, HEADER.encode() + b"\n" + data):
        found = parse_operations(content)
        assert parse_operations(format_operations(found)) == found


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("export A=1", id="unknown-verb"),
        pytest.param("set 1A=1", id="name-starts-with-digit"),
        pytest.param("set A B=1", id="name-with-space"),
        pytest.param("set Ä=1", id="name-in-another-alphabet"),
        pytest.param("set A", id="no-value"),
        pytest.param("set A=\0", id="NUL"),
        pytest.param("unset A=1", id="unset-with-value"),
        pytest.param("everywhere set A=1", id="unknown-scope"),
        pytest.param("host", id="scope-alone"),
        pytest.param("", id="empty"),
        pytest.param("# set A=1", id="comment"),
    ],
)
def test_a_line_that_does_not_parse_is_skipped(line: str) -> None:
    assert parse_operations(f"{HEADER}\n{line}\nset B=2\n".encode()) == [Operation("set", "B", "2")]


@pytest.mark.parametrize("first", ["", "# slurm-fsx env 2", "# slurm-fsx env 1 ", "set A=1"])
def test_a_file_of_another_version_gives_nothing(first: str) -> None:
    assert parse_operations(f"{first}\nset A=1\n".encode()) == []


@pytest.mark.parametrize(
    ("verb", "name", "value", "scope"),
    [
        pytest.param("set", "A", "1\n2", "", id="line-break"),
        pytest.param("set", "A", "1\0", "", id="NUL"),
        pytest.param("set", "A", "\ud800", "", id="half-a-character"),
        pytest.param("set", "A=B", "1", "", id="name-with-equals"),
        pytest.param("set", "", "1", "", id="no-name"),
        pytest.param("export", "A", "1", "", id="unknown-verb"),
        pytest.param("set", "A", "1", "guest", id="unknown-scope"),
        pytest.param("unset", "A", "1", "", id="unset-with-value"),
    ],
)
def test_what_the_file_cannot_hold_is_an_error_when_it_is_written(verb: str, name: str, value: str, scope: str) -> None:
    with pytest.raises(InvalidEnvironment):
        JobEnv([Operation(verb, name, value, scope)])


@pytest.mark.parametrize(
    ("verb", "before", "value", "after"),
    [
        pytest.param("default", None, "new", "new", id="default-of-unset"),
        pytest.param("default", "users", "new", "users", id="default-yields-to-the-user"),
        pytest.param("default", "", "new", "", id="default-yields-to-empty"),
        pytest.param("set", "users", "new", "new", id="set"),
        pytest.param("prepend", None, "/a:/b", "/a:/b", id="prepend-to-unset"),
        pytest.param("prepend", "/c", "/a:/b", "/a:/b:/c", id="prepend-keeps-order"),
        pytest.param("prepend", "/c:/a", "/a", "/a:/c", id="prepend-moves"),
        pytest.param("append", "/a:/c", "/a", "/c:/a", id="append-moves"),
        pytest.param("append", "/c", "/a:/b", "/c:/a:/b", id="append-keeps-order"),
        pytest.param("prepend", ":/c::", ":/a:", "/a:/c", id="empty-entries-are-dropped"),
        pytest.param("prepend", "/c:/c", "/a:/a", "/a:/c", id="no-entry-twice"),
    ],
)
def test_an_operation_on_a_variable(verb: str, before: str | None, value: str, after: str) -> None:
    environment = {} if before is None else {"X": before}
    assert apply_operations([Operation(verb, "X", value)], environment) == {"X": after}


@given(st.lists(operations()), st.lists(operations()), st.dictionaries(NAMES, VALUES))
def test_operations_compose(first: list[Operation], second: list[Operation], environment: dict[str, str]) -> None:
    assert apply_operations(first + second, environment) == apply_operations(
        second, apply_operations(first, environment)
    )


@given(st.lists(operations()), st.dictionaries(NAMES, VALUES))
def test_defaults_and_prepended_entries_applied_twice_change_nothing_more(
    found: list[Operation], environment: dict[str, str]
) -> None:
    lists_and_defaults = [operation for operation in found if operation.verb in ("default", "prepend")]
    names = [operation.name for operation in lists_and_defaults]
    once_each = [operation for operation in lists_and_defaults if names.count(operation.name) == 1]
    once = apply_operations(once_each, environment)
    assert apply_operations(once_each, once) == once


def test_the_default_that_was_written_last_counts() -> None:
    env = JobEnv([Operation("default", "NCCL_DEBUG", "INFO"), Operation("default", "FI_PROVIDER", "efa")])
    env.default("NCCL_DEBUG", "WARN")
    env.default("FI_PROVIDER", "tcp", scope="host")
    assert apply_operations(env, {})["NCCL_DEBUG"] == "WARN"
    assert apply_operations(env, {"NCCL_DEBUG": "TRACE"})["NCCL_DEBUG"] == "TRACE"
    # Where its scope leaves the new one out, the old one still stands.
    assert [operation.value for operation in env if operation.name == "FI_PROVIDER"] == ["tcp", "efa"]


def test_a_default_after_an_unset_sets_the_variable_for_everybody() -> None:
    env = JobEnv([Operation("default", "A", "1"), Operation("unset", "A")])
    env.default("A", "2")
    assert apply_operations(env, {"A": "users"}) == {"A": "2"}


TASK_PROLOG_NAMES = st.sampled_from(["A", "B", "LD_LIBRARY_PATH", "_x9"])


@given(st.lists(operations(TASK_PROLOG_NAMES), max_size=8), st.dictionaries(TASK_PROLOG_NAMES, VALUES))
def test_the_task_prolog_applies_what_python_would(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, found: list[Operation], environment: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "1.env").write_bytes(format_operations(found))
    script = (checkout / "task_prolog.d/slurm-fsx").read_bytes()
    # The one line that a test changes: where the jobs' files are.
    script = script.replace(b"/run/slurm-fsx/jobs/", f"{folder}/".encode())
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=script,
        env={**environment, "SLURM_JOB_ID": "1"},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    result = dict(environment)
    for line in done.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        verb, _, rest = line.partition(" ")
        name, _, value = rest.partition("=")
        if verb == "export":
            result[name] = value
        else:
            assert verb == "unset"
            result.pop(name, None)
    assert result == apply_operations(found, environment)


def test_the_file_is_readable_as_documented() -> None:
    env = JobEnv()
    env.default("FI_PROVIDER", "efa")
    env.prepend("LD_LIBRARY_PATH", "/fsx/nccl/lib", scope="library")
    env.unset("NCCL_ALGO")
    assert format_operations(env) == (
        b"# slurm-fsx env 1\ndefault FI_PROVIDER=efa\nlibrary prepend LD_LIBRARY_PATH=/fsx/nccl/lib\nunset NCCL_ALGO\n"
    )


@given(st.lists(operations(TASK_PROLOG_NAMES), max_size=8), st.dictionaries(TASK_PROLOG_NAMES, VALUES))
@pytest.mark.parametrize("left_out", [(), ("host",), ("host", "library")], ids=["host", "container", "own-nccl"])
def test_the_spank_plugin_applies_what_python_would(
    core_tool: Path,
    tmp_path_factory: pytest.TempPathFactory,
    left_out: tuple[str, ...],
    found: list[Operation],
    environment: dict[str, str],
) -> None:
    path = tmp_path_factory.mktemp("run") / "1.env"
    # What is left out must leave nothing; what it had left before, in an outer step, the C tests look at.
    found = [operation._replace(name="LEFT_OUT") if operation.scope in left_out else operation for operation in found]
    path.write_bytes(format_operations(found))
    flags = {(): [], ("host",): ["--container", "--library"], ("host", "library"): ["--container"]}[left_out]
    given_lines = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items()) or b"\0"
    done = subprocess.run([core_tool, "env", path, *flags], input=given_lines, capture_output=True, check=True)
    lines = [os.fsdecode(line) for line in done.stdout.split(b"\0") if line]
    applied = [operation for operation in found if operation.scope not in left_out]
    assert dict(line.split("=", 1) for line in lines) == apply_operations(applied, environment)


@given(st.binary(max_size=200))
def test_the_spank_plugin_reads_the_lines_that_python_reads(
    core_tool: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("run") / "1.env"
    for content in (data, HEADER.encode() + b"\n" + data, HEADER.encode() + b"\nset A=" + data):
        path.write_bytes(content)
        done = subprocess.run([core_tool, "operations", path], capture_output=True, check=False)
        expected = [f"{o.scope or '-'} {o.verb} {o.name} {o.value}".rstrip() for o in parse_operations(content)]
        assert [os.fsdecode(line).rstrip() for line in done.stdout.split(b"\n") if line] == expected
