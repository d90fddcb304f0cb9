"""docs/launching.md prints what is printed."""

import pathlib
import re

import pytest
import tpu

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "launching.md"


@pytest.mark.usefixtures("root")
def test_the_first_hour_is_as_it_is_told(capsys):
    text = DOCS.read_text()
    [job] = re.findall("```toml\n(.*?)```", text, re.DOTALL)
    [told] = re.findall("```console\n(.*?)```", text, re.DOTALL)
    pathlib.Path("ben.toml").write_text(job)
    command, _, printed = told.partition("\n")
    assert tpu.main(command.split()[2:]) == 0
    assert capsys.readouterr().out == printed
