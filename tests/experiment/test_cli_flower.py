"""What stands on the command line of ``hanse flower`` is read wholly, or refused before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hanse.cli import group
from hanse.errors import ConfigError

APP = Path(__file__).parents[1] / "flower_apps" / "hospitals"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("num-server-rounds 5", "'num-server-rounds 5' of --run-config is no NAME=VALUE"),
        ("num-server-rounds=5 learning-rate", "'learning-rate' of --run-config is no NAME=VALUE"),
        ("num-server-rounds=five", "is not TOML"),
        ("rounds=5", "has no 'rounds'"),
    ],
)
def test_a_setting_that_cannot_be_read_is_said(config: str, said: str) -> None:
    asked = ["flower", "propose", str(APP), "--run-config", config]
    done = CliRunner().invoke(group, asked, env={"HANSE_URL": "http://127.0.0.1:9", "HANSE_TOKEN": "t"})
    assert isinstance(done.exception, ConfigError)
    assert said in done.exception.message
