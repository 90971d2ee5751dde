"""The cron daemon of Debian with a crontab of ours: what it runs, `tq schedule import` runs alike, and what it mails with `tq run --cron`.

cron sees directories of this test in the place of the machine's spool, its ``/etc/cron.d``, ``/run`` and ``sendmail``, by mounts of its
own: only root may do that. No crontab of the machine is read or changed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.slow]

Tq = Callable[..., subprocess.CompletedProcess[str]]
MOUNTS = """
set -e
umask 022
for place in var/spool run usr/sbin etc/pam.d etc/cron.d etc/crontab; do
    if test -e "/$place"; then mount --bind "$1/$place" "/$place"; fi
done
exec "$2" -f -L 15
"""
PERMIT = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
CASES = r"""
A=1
B = ' x  y '
"C"="'q'"
D=$HOME:$A # no comment
MAILTO=""
LOGNAME=somebody
@reboot (env | sort; pwd; umask) > $OUT/surroundings
@reboot cat > $OUT/lines%one%\%two\x%%$HOME `id` "%END%
@reboot cat > $OUT/nothing%
@reboot printf '\%s\n' a\\b 'c\\\\d' "it's" \\\% > $OUT/backslashes; cat >> $OUT/backslashes%x\\y\\%
   @reboot	 echo  "a   b"  >	$OUT/blanks
HOME=/tmp
PATH=/bin
@reboot pwd > $OUT/home; echo $PATH >> $OUT/home
SHELL=/bin/bash
@reboot echo ${BASH_VERSION:+bash} {a,b} > $OUT/shell; cat >> $OUT/shell%fed
"""


@pytest.fixture(scope="module")
def debians(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of Debian's cron, installed or fetched."""
    if os.geteuid() != 0:
        pytest.skip("expected to be root, whom cron and its mounts need")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("expected to be allowed mounts of our own (`unshare -m true`)")
    installed = Path("/usr/sbin/cron")
    if installed.exists() and b"/run/crond.reboot" in installed.read_bytes():
        return str(installed)
    place = tmp_path_factory.mktemp("cron")
    if shutil.which("apt-get") and shutil.which("dpkg"):
        subprocess.run(["apt-get", "-q", "download", "cron"], cwd=place, capture_output=True, timeout=100, check=False)
        for package in place.glob("cron_*.deb"):
            subprocess.run(["dpkg", "-x", package, place], capture_output=True, check=True)
            return str(place / "usr/sbin/cron")
    text = "expected Debian's cron, or apt-get to fetch it with, found neither. Install it: apt-get install cron"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


class Cron:
    """A cron daemon with root's crontab alone; what it mails is kept."""

    def __init__(self, place: Path, program: str) -> None:
        self.place, self.program = place, program
        for part in ("var/spool/cron/crontabs", "run", "usr/sbin", "etc/pam.d", "etc/cron.d", "mail"):
            (place / part).mkdir(parents=True)
        (place / "etc/crontab").touch()
        for name in ("cron", "other"):
            (place / "etc/pam.d" / name).write_text(PERMIT)
        sendmail = place / "usr/sbin/sendmail"
        sendmail.write_text(f"#!/bin/sh\ncat > {place}/mail/$$.new && mv {place}/mail/$$.new {place}/mail/$$\n")
        sendmail.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, table: str) -> None:
        crontab = self.place / "var/spool/cron/crontabs/root"
        crontab.write_text(table)
        crontab.chmod(0o600)
        with (self.place / "words").open("wb") as words:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", MOUNTS, "sh", str(self.place), self.program],
                stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True,
            )  # fmt: skip

    def mails(self) -> list[str]:
        return sorted(path.read_text().partition("\n\n")[2] for path in (self.place / "mail").iterdir() if path.suffix != ".new")

    def end(self) -> None:
        """All of it: those that wait for a job, too."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@pytest.fixture
def cron(debians: str, tmp_path: Path) -> Iterator[Cron]:
    one = Cron(tmp_path / "cron", debians)
    yield one
    one.end()


def told(place: Path) -> dict[str, str]:
    """What the commands of CASES wrote, without what only one side has."""
    found = {path.name: path.read_text() for path in place.iterdir()}
    own = ("TQ_", "OUT=", "_=", "SHLVL=", "PWD=")
    found["surroundings"] = "\n".join(line for line in found["surroundings"].splitlines() if not line.startswith(own))
    return found


def test_an_imported_line_runs_as_cron_runs_it(cron: Cron, daemon: Any, tq: Tq, tmp_path: Path) -> None:
    places = {name: tmp_path / f"of-{name}" for name in ("cron", "tq")}
    for place in places.values():
        place.mkdir()
    cron.start(f"OUT={places['cron']}\n{CASES}")
    count = CASES.count("@reboot")
    assert count == 7
    daemon(workers=1)
    done = tq("schedule", "import", "-", input=f"OUT={places['tq']}\n{CASES}")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [json.loads(line)["name"] for line in tq("schedule", "list", "--json").stdout.splitlines()]
    assert len(names) == count
    for name in names:
        assert tq("schedule", "run", name, "--wait").returncode == 0
    wait_until(lambda: len(list(places["cron"].iterdir())) == count, 30, "cron's own runs")
    wait_until(lambda: told(places["cron"]) == told(places["tq"]), 5, f"{told(places['cron'])}\nto equal\n{told(places['tq'])}")
    assert told(places["tq"])["lines"] == 'one\n%two\\x\n\n$HOME `id` "\nEND\n'
    again = tq("schedule", "import", "-", input=f"OUT={places['tq']}\n{CASES}")
    assert again.stderr.startswith(f"{count} unchanged\n")
    assert cron.mails() == []


@pytest.mark.timeout(200)
def test_under_cron_a_wrapped_command_is_silent_unless_it_fails_and_never_runs_twice_at_a_time(cron: Cron, tq: Tq, data_dir: Path) -> None:
    run = f"{sys.executable} -m tq run --cron"
    cron.start(
        f"TQ_DATA_DIR={data_dir}\nPYTHONPATH={ROOT}\n"
        f"* * * * * {run} good -- sh -c 'echo fine; echo noise >&2'\n"
        f"* * * * * {run} fed --stdin -- grep -q lines%some%lines\n"
        f"* * * * * {run} bad -- sh -c 'seq 500; echo the reason >&2; exit 3'; echo \"code $?\"\n"
        f"* * * * * {run} late --timeout 1s -- sleep 60\n"
        f"* * * * * {run} slow -- sleep 600\n"
        f'* * * * * {run} slow -- sleep 600; echo "left out: $?" > {data_dir}.left\n'
        f'* * * * * {run} slow -- sleep 600; echo "left out: $?" > {data_dir}.left\n'
    )  # fmt: skip

    def runs(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in tq("list", f"label:{name}", "--json").stdout.splitlines()]

    wait_until(
        lambda: len(cron.mails()) > 1, 90, "mails of the two that failed"
    )  # a daemon that kept cron's pipe open would keep them back
    bad, late = sorted(cron.mails(), key=lambda mail: "TimedOut" in mail)
    (failed,) = runs("bad")
    assert bad.splitlines()[0].startswith(f"tq: bad: task {failed['id']} failed: ")
    assert "ExitCode: exit code 3" in bad
    assert bad.splitlines()[-1] == "code 3"
    assert ("the reason\n" in bad, "\n500\n" in bad, "\n403\n" in bad, "\n400\n" in bad) == (True, True, True, False)
    assert "TimedOut: it ran longer than its timeout of 1 s" in late
    assert [row["exit_code"] for row in runs("good")] == [0]
    assert tq("log", str(runs("good")[0]["id"]), "--stdout").stdout == "fine\n"
    assert [row["state"] for row in runs("fed")] == ["succeeded"]
    (slow,) = runs("slow")
    left = Path(f"{data_dir}.left")
    wait_until(left.exists, 10, "a run that is left out")
    assert (slow["state"], left.read_text()) == ("running", "left out: 0\n")
    assert len(cron.mails()) == 2
    assert tq("cancel", str(slow["id"])).returncode == 0
    wait_until(lambda: len(cron.mails()) == 3, 30, "the mail of the one that was cancelled")
    assert f"tq: slow: task {slow['id']} cancelled" in "".join(cron.mails())
    left.unlink()
