from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.errors import ConfigError, CorruptError
from rewind_logger.format import names
from rewind_logger.format.names import RunPaths, SegmentName
from rewind_logger.format.run_names import check_name
from rewind_logger.types import RunRef

RUN = RunRef("team/digits", "r 1")
INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    "name",
    ["r1", "a", "lr=3e-4, größer", "訓練 1", "a.b", "-", "_x", "T1", "ma", "console", "com10", "pins2", "x" * 128],
)
def test_a_name_of_any_script_with_inner_spaces_is_kept(name: str) -> None:
    assert check_name("run id", name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        (".", "begins with a dot"),
        ("..", "begins with a dot"),
        (".git", "begins with a dot"),
        ("a/b", "holds '/'"),
        ("a\\b", r"holds '\\'"),
        *((f"a{sign}b", f"holds {sign!r}") for sign in '@?#%*:<>|"'),
        ("a\nb", r"a control character ('\n')"),
        ("a\x00", r"a control character ('\x00')"),
        ("a\x85b", r"a control character ('\x85')"),
        ("a\u2028b", r"a control character ('\u2028')"),
        ("a\u202eb", r"a control character ('\u202e')"),
        ("a\ud800", r"half of a surrogate pair ('\ud800')"),
        (" a", "begins or ends with white space"),
        ("a\u00a0", "begins or ends with white space"),
        ("a.", "ends with a dot"),
        ("x" * 129, "has 129 characters; use at most 128"),
        ("é" * 101, "has 202 bytes in UTF-8; use at most 200"),
        *((reserved, "is reserved, for folders within a store") for reserved in ("m", "t", "v", "j", "pins")),
        ("Checkpoints", "use a longer name, such as 'run-Checkpoints'"),
        ("con", "the name of a device on Windows"),
        ("NUL.txt", "the name of a device on Windows"),
        ("com1", "the name of a device on Windows"),
        ("lpt² .x", "the name of a device on Windows"),
    ],
)
def test_a_name_that_is_unsafe_somewhere_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_name("project", name)
    assert str(caught.value).startswith("The project '")
    assert why in str(caught.value)


def test_the_refusal_shows_the_name_but_not_a_page_of_it() -> None:
    with pytest.raises(ConfigError, match=r"^The run id 'a\?b' cannot be used: it holds '\?'; use letters"):
        check_name("run id", "a?b")
    with pytest.raises(ConfigError) as caught:
        check_name("run id", "x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [None, 3, b"run", ["run"]])
def test_a_name_must_be_text(name: object) -> None:
    with pytest.raises(ConfigError, match="not a str: give it as text"):
        check_name("entity", name)  # type: ignore[arg-type]


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_one_plain_part_of_a_path(name: str) -> None:
    try:
        check_name("run id", name)
    except ConfigError:
        return
    assert name.strip(". ") and not set(name) & set('/\\@?#%*:<>|"')
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)
    # Its folder is taken for nothing else, and what lies in it comes back from a lineage as it was.
    run = RunRef(name, name)
    folder = RunPaths(run).term(0, "9f")
    assert names.absolute(names.relative(folder, run), run) == folder
    assert names.absolute(names.relative(folder, RUN), RUN) == folder


def test_the_layout_is_the_one_that_is_specified() -> None:
    paths = RunPaths(RUN)
    term = paths.term(12, "9f3a")
    assert paths.root == "team/digits/r 1"
    assert paths.claims == "team/digits/r 1/m"
    assert paths.claim(12) == "team/digits/r 1/m/00000012.json"
    assert paths.terms == "team/digits/r 1/t"
    assert term == "team/digits/r 1/t/00000012-9f3a"
    assert paths.pins == "team/digits/r 1/pins"
    assert paths.pin("77") == "team/digits/r 1/pins/77.json"
    assert paths.evaluations == "team/digits/r 1/v"
    assert paths.evaluation("77") == "team/digits/r 1/v/77"
    assert paths.journals == "team/digits/r 1/j"
    assert names.base(term) == f"{term}/base.json"
    assert names.end(term) == f"{term}/end.json"
    assert names.merge(term) == f"{term}/merge.json"
    assert names.merged(term, 3) == f"{term}/a3"
    assert names.streams(term) == f"{term}/s"
    assert names.stream(term, "metrics") == f"{term}/s/metrics"
    assert names.group(term, "metrics", 999) == f"{term}/s/metrics/000000"
    assert names.group(term, "metrics", 1000) == f"{term}/s/metrics/000001"
    assert names.segment(term, "metrics", SegmentName(1999, 2062, -1, 7)) == (
        f"{term}/s/metrics/000001/000001999-000002062_-1_7.parquet"
    )


@given(st.integers(0, 10**18 - 1))
def test_the_number_of_a_claim_is_read_back(n: int) -> None:
    paths = RunPaths(RUN)
    assert paths.parse_claim(paths.claim(n).rpartition("/")[2]) == n


@pytest.mark.parametrize(
    "name",
    [
        "0.json",
        "0000000.json",
        "000000001.json",
        "00000001",
        "00000001.json.tmp",
        "-0000001.json",
        "\u0660000000\u0661.json",
    ],
)
def test_what_is_not_exactly_the_name_of_a_claim_is_none(name: str) -> None:
    assert RunPaths(RUN).parse_claim(name) is None


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), INT64, INT64)
def test_the_name_of_a_segment_is_read_back(a: int, b: int, clock: int, other: int) -> None:
    name = SegmentName(min(a, b), max(a, b), min(clock, other), max(clock, other))
    assert SegmentName.parse(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "000000000-000000000_0_0",
        "000000000-000000000_0_0.parquet.tmp",
        "000000000-000000000_0_0.PARQUET",
        "000000000-000000000_0.parquet",
        "000000000-000000000_00_0.parquet",
        "000000000-000000000_-0_0.parquet",
        "000000000-000000000_+0_0.parquet",
        "00000000-000000000_0_0.parquet",
        "0000000000-000000000_0_0.parquet",
        "000000001-000000000_0_0.parquet",
        "000000000-000000000_1_0.parquet",
        "000000000-000000000_0_9223372036854775808.parquet",
        "\u066000000000-000000000_0_0.parquet",
        "000000000-000000000_0_0.parquet\n",
    ],
)
def test_what_is_not_exactly_the_name_of_a_segment_is_none(name: str) -> None:
    assert SegmentName.parse(name) is None


@given(st.text(alphabet="0123456789-_.parquet", max_size=50))
def test_a_name_that_parses_is_the_one_that_would_be_written(name: str) -> None:
    parsed = SegmentName.parse(name)
    assert parsed is None or str(parsed) == name


def test_only_folders_that_move_with_the_run_are_relative_to_it() -> None:
    assert names.relative("team/digits/r 1/t/00000000-9f", RUN) == "./t/00000000-9f"
    assert names.relative("team/digits/r 1/t/00000000-9f/a0", RUN) == "./t/00000000-9f/a0"
    assert names.relative("team/digits/r 1/v/77", RUN) == "./v/77"
    assert names.relative("team/digits/r 10/t/00000000-9f", RUN) == "team/digits/r 10/t/00000000-9f"
    # A run of the project "digits/r", which lies below the run "r" of the project "digits".
    assert names.relative("digits/r/x/t/00000000-9f", RunRef("digits", "r")) == "digits/r/x/t/00000000-9f"
    assert names.absolute("./t/00000000-9f", RunRef("elsewhere", "x")) == "elsewhere/x/t/00000000-9f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "./",
        "..",
        "./..",
        "./t/../../../../etc",
        "other/../../x",
        "a/./b",
        "/etc",
        ".//etc",
        "a//b",
        "a/",
        "a\\..\\b",
        "c:/windows",
        "a\nb",
        "a\x00b",
        "a\ud800",
        "s3://other/bucket",
        "a/*/b",
        None,
        7,
    ],
)
def test_a_lineage_that_points_out_of_the_store_is_refused(text: str) -> None:
    with pytest.raises(CorruptError, match="lineage of run team/digits/r 1"):
        names.absolute(text, RUN)
