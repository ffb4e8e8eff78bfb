"""The command line in this process, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from infsim.cli.main import main
from tests.command import SCENARIO, Command, Ended


@pytest.fixture
def infsim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in a folder that holds ``small.yaml``, in this process."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SCENARIO)

    def command(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        code = end.value.code or 0
        assert isinstance(code, int)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Ended(code, said.out, said.err)

    return command
