"""What docs/commands.md says of exit codes and JSON keys is what the commands do."""

from __future__ import annotations

import json
import re

import pytest

from tests.helpers.onpace_process import REPOSITORY, onpace
from tests.helpers.tiny_onnx import do_nothing_detector

TEXT = (REPOSITORY / "docs" / "commands.md").read_text()


def section(title: str) -> str:
    """The part of the page under a heading that begins so."""
    (part,) = (part for part in TEXT.split("\n## ") if part.startswith(title))
    return part


def keys_of_table(text: str) -> set[str]:
    """The backticked words of each row's first column."""
    return {word for row in re.findall(r"^\| (`[^|]*)\|", text, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}


@pytest.fixture
def summary(tmp_path):
    model = do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))
    process = onpace("run", "pattern:?frames=5", "--model", model, "--json")
    return json.loads(process.stdout)


def test_the_summary_has_the_documented_keys_and_no_other(summary):
    whole, stream = section("`onpace run").split("and of each stream")
    assert set(summary) == keys_of_table(whole)
    assert set(summary["streams"][0]) == keys_of_table(stream)


@pytest.mark.parametrize(("command", "arguments"), [("check", ["configs/minimal.yaml"]), ("doctor", [])])
def test_the_documented_keys_of_a_report_are_there(command, arguments):
    report = json.loads(onpace(command, *arguments, "--json").stdout)
    text = section(f"`onpace {command}")
    assert set(report) <= set(re.findall(r"`(\w+)`", text))


def test_the_exit_codes_of_page_readme_and_code_agree():
    from pipeline.cli import exit_codes

    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    for page in (TEXT, (REPOSITORY / "README.md").read_text()):
        assert {int(code) for code in re.findall(r"^\| (\d) \|", page, re.MULTILINE)} == codes
