"""What a user can put right ends in one line."""

import os

import pytest

from nyx.errors import plain_errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
def test_a_full_disk_asks_for_room(capsys):
    with pytest.raises(SystemExit) as end, plain_errors(), open("/dev/full", "w") as file:
        file.write("x" * 2**20)
    told = capsys.readouterr().err
    assert end.value.code == 2 and "No space left" in told and told.endswith("Make room, and run it again.\n")
