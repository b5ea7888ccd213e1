"""Writing a change back: the stream's own lines change, and nothing else does."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.edit import ConfigFile
from pipeline.config.load import load
from pipeline.errors import ConfigError

TEXT = """\
# what is watched
streams:
  # the door
  - id: door  # its name
    url: pattern:?fps=10   # for now
    weight: 2      # important

  # the yard
  - {id: yard, url: 'pattern:', realtime: true}  # short
  - id: "hall"
    url: "pattern:"

# the model
infer: {model: "sample:street.onnx"}   # bundled
publish:
    sinks: []  # none yet
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cameras.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return ConfigFile(path)


def lines_changed(file):
    before, after = TEXT.splitlines(), file.path.read_text().splitlines()
    return [line for line in before if line not in after], [line for line in after if line not in before]


def streams(file):
    return {stream.id: stream for stream in load(file.path).config.streams}


@pytest.mark.parametrize(
    ("stream_id", "changes", "gone", "new"),
    [
        ("door", {"weight": 3.5}, ["    weight: 2      # important"], ["    weight: 3.5      # important"]),
        ("door", {"max_fps": 5}, [], ["    max_fps: 5"]),
        ("hall", {"deadline": "200ms"}, [], ["    deadline: 200ms"]),
        (
            "yard",
            {"weight": None},
            ["  - {id: yard, url: 'pattern:', realtime: true}  # short"],
            ["  - {id: yard, url: 'pattern:', realtime: true, weight: null}  # short"],
        ),
    ],
)
def test_a_changed_key_changes_its_line_and_no_other(file, stream_id, changes, gone, new):
    file.change(stream_id, changes)
    assert lines_changed(file) == (gone, new)
    for key, value in changes.items():
        assert getattr(streams(file)[stream_id], key) == (0.2 if value == "200ms" else value)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640
    assert list(file.path.parent.iterdir()) == [file.path]


def test_an_added_stream_stands_after_the_last_and_can_be_taken_out_again(file):
    file.add(
        {
            "id": "new",
            "url": "pattern:?fps=5",
            "realtime": True,
            "deadline": "1s",
            "username": "on",
            "password": "a: $b #${HOME}",
        }
    )
    assert lines_changed(file)[0] == []
    added = streams(file)["new"]
    assert (added.url, added.realtime, added.deadline, added.password.get_secret_value()) == (
        "pattern:?fps=5",
        True,
        1.0,
        "a: $b #${HOME}",
    )
    file.remove("new")
    assert file.path.read_text() == TEXT


def test_a_removed_stream_takes_its_lines_with_it(file):
    file.remove("yard")
    assert lines_changed(file) == (["  - {id: yard, url: 'pattern:', realtime: true}  # short"], [])
    file.remove("hall")
    assert list(streams(file)) == ["door"]
    with pytest.raises(ConfigError, match="none would be left"):
        file.remove("door")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (TEXT.replace("door", "${WHO}"), "stream 'door' is not in it"),
        ("streams: [{id: door, url: 'pattern:'}]\ninfer: {model: 'sample:street.onnx'}\n", "a line for each"),
        ("- a", "no list of streams"),
        (TEXT.replace("sample:street", "sample:nothing"), "no usable configuration"),
    ],
)
def test_what_cannot_be_edited_is_left_as_it_was(file, text, match):
    file.path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        file.change("door", {"weight": 5}) if "a line" not in match else file.add({"id": "x", "url": "pattern:"})
    assert file.path.read_text() == text
    assert list(file.path.parent.iterdir()) == [file.path]


def test_what_somebody_wrote_meanwhile_is_kept(file):
    file.path.write_text(TEXT.replace("# none yet", "# mine"))
    file.change("door", {"weight": 9})
    assert "# mine" in file.path.read_text()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("remove"), st.sampled_from(["a", "b", "door", "yard", "hall"])),
        st.tuples(st.just("weight"), st.sampled_from(["a", "door", "yard", "hall"])),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(steps=steps, ends_with_newline=st.booleans())
def test_whatever_the_steps_the_file_says_what_was_done(tmp_path_factory, steps, ends_with_newline):
    path = tmp_path_factory.mktemp("edit") / "c.yaml"
    infer, text = TEXT.partition("\n# the model")[2], TEXT.partition("\n# the model")[0]
    path.write_text("# the model" + infer + text if ends_with_newline else "# the model" + infer + text.rstrip("\n"))
    file = ConfigFile(path)
    expected = {"door": 2.0, "yard": None, "hall": None}
    for what, name in steps:
        if what == "add" and name not in expected:
            file.add({"id": name, "url": "pattern:"})
            expected[name] = None
        elif what == "remove" and name in expected and len(expected) > 1:
            file.remove(name)
            del expected[name]
        elif what == "weight" and name in expected:
            file.change(name, {"weight": 7})
            expected[name] = 7.0
    assert {stream_id: stream.weight for stream_id, stream in streams(file).items()} == expected
    assert path.read_text().count("# none yet") == 1
