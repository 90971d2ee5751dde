"""What is taken from descriptors 1 and 2: all of it, in order, and its disk space given back while the worker lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PRINTING = """
import os, sys
from pathlib import Path
from tq.worker.capture import Descriptors
shown, size, times = os.dup(2), int(sys.argv[2]), int(sys.argv[3])
sys.stdout = sys.stderr = None
descriptors = Descriptors(Path(sys.argv[1]))
most = 0
for n in range(times):
    os.write(1, b"%d" % (n % 10) * size)
    os.write(2, b"e")
    descriptors.drain(None)
    most = max(most, *(os.fstat(fd).st_blocks * 512 for fd in descriptors._fds))
os.write(shown, b"%d\\n" % most)
"""


@pytest.mark.parametrize(("size", "times"), [(100_000, 100), (100, 30_000), (3_000_000, 3)], ids=["middling", "small", "large"])
def test_what_children_print_is_all_taken_and_does_not_stay_on_disk_however_little_comes_at_a_time(
    tmp_path: Path, size: int, times: int
) -> None:
    # As in a worker, what belongs to no task goes to the real standard error: here to a file.
    code = "import os, tq.worker.capture as c\nc._real = os.open(__import__('sys').argv[4], os.O_WRONLY | os.O_CREAT)\n" + _PRINTING
    argv = [sys.executable, "-W", "error", "-c", code, str(tmp_path), str(size), str(times), str(tmp_path / "taken")]
    done = subprocess.run(argv, capture_output=True, check=True)
    taken = (tmp_path / "taken").read_bytes()
    assert taken.replace(b"e", b"") == b"".join(b"%d" % (n % 10) * size for n in range(times))
    assert taken.count(b"e") == times
    assert 0 < int(done.stderr) <= size + (1 << 20), "bytes on disk at the most"
