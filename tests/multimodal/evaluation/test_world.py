"""The shipped model is measured in its own world by one command."""

import json

import pytest

from multimodal.cli import main


@pytest.mark.slow
def test_the_world_is_drawn_asked_and_counted(capsys):
    assert main(["evaluate", "world", "--limit", "30", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["medium"] for row in rows} == {"pictures", "clips", "recordings"}
    assert all(row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9 for row in rows)
    by_what = {row["what"]: row["value"] for row in rows}
    assert by_what["caption, right"] > 0.7 and by_what["colour, right"] > 0.9
    assert max(v for what, v in by_what.items() if what.startswith("word error")) < 0.2
    assert main(["evaluate", "world", "--limit", "2"]) == 0
    assert capsys.readouterr().out.startswith("| medium | what |")
