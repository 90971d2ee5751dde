"""``tq schedule import``: what is asked for, what is said of each line, and what is refused before anything is asked."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tq.cli.test_schedules import schedule
from tq.model import unpack

Run = Callable[..., tuple[int, str, str]]
ME = pwd.getpwuid(os.geteuid())
TABLE = """\
MAILTO=me
TOKEN = "very secret"
CRON_TZ=Europe/Paris
30 2 * * mon-fri backup.sh /home
@daily cat%one%two
"""


@pytest.fixture
def asks(fake: Any) -> Any:
    """A daemon of paper that remembers schedules."""
    kept: dict[str, dict[str, Any]] = {}

    def put(args: dict[str, Any]) -> dict[str, Any]:
        assert args.get("new", False) == (args["name"] not in kept)
        kept[args["name"]] = args
        return {}

    def tell(args: dict[str, Any]) -> dict[str, Any]:
        if "name" not in args:
            return {"schedules": [schedule(name) for name in kept], "next": None}
        one = kept[args["name"]]
        options = {key: value for key, value in one["task"][2].items() if value is not None}
        return {"schedules": [schedule(args["name"], payload=one["task"][1], options=options, runs=[], alerts={})], "next": None}

    fake.verbs |= {"set_schedule": put, "schedules": tell}
    return fake


@pytest.fixture
def tab(tmp_path: Path) -> Callable[[str], str]:
    """A file with this crontab; its path."""

    def write(text: str) -> str:
        (tmp_path / "tab").write_text(text, "utf-8", "surrogateescape")
        return str(tmp_path / "tab")

    return write


def test_each_line_is_a_schedule_that_runs_it_as_cron_does(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    code, out, err = run("schedule", "import", tab(TABLE))
    assert code == 0, err
    first, second = asks.asked("set_schedule")
    kind, payload, options = first["task"]
    assert (first["cron"], first["tz"], first["misfire"], first["overlap"], kind) == (
        "30 2 * * mon-fri", "Europe/Paris", "skip", "allow", "shell",
    )  # fmt: skip
    assert unpack(payload) == {"argv": ["/bin/sh", "-c", "backup.sh /home"]}
    assert options["extras"] == {"cwd": ME.pw_dir, "umask": 0o022, "env": {
        "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "HOME": ME.pw_dir, "LOGNAME": ME.pw_name, "MAILTO": "me", "TOKEN": "very secret",
        "CRON_TZ": "Europe/Paris",
    }}  # fmt: skip
    assert unpack(second["task"][1])["argv"][-3:] == ["/bin/sh", "cat", "one\ntwo"]
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [["line", "is"], ["4", "new"], ["5", "new"]]
    assert "line 1: MAILTO: tq sends no mail" in out
    assert "--on-failure" in out
    assert "secret" not in out + err
    assert err.startswith("2 new\n")
    assert "cron goes on running these lines, too" in err


def test_the_same_crontab_again_changes_nothing_and_a_variable_is_changed_in_place(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    assert run("schedule", "import", tab(TABLE))[0] == 0
    asks.requests.clear()
    code, out, err = run("schedule", "import", tab("# moved\n\n" + TABLE))
    assert (code, err, asks.asked("set_schedule")) == (0, "2 unchanged\n", [])
    assert out.count("unchanged") == 2
    assert run("schedule", "import", tab(TABLE.replace("very", "most")))[2] == "2 changed\n"
    first, second = asks.asked("set_schedule")
    assert "new" not in first
    assert second["task"][2]["extras"]["env"]["TOKEN"] == "most secret"
    assert run("schedule", "import", tab(TABLE.replace("very", "most")))[2] == "2 unchanged\n"


def test_options_hold_for_all_lines_and_go_when_they_are_no_more_said(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    words = ("--misfire=coalesce", "--overlap=skip", "--on-failure=mail me", "--queue=night", "--timeout=1h", "--prefix=box", "--tz=UTC")
    assert run("schedule", "import", tab("@daily x"), *words)[0] == 0
    assert run("schedule", "import", tab("@daily x"), *words)[2] == "1 unchanged\n"
    (one,) = asks.asked("set_schedule")
    assert (one["misfire"], one["overlap"], one["tz"], one["name"][:6]) == ("coalesce", "skip", "UTC", "box-x-")
    assert (one["on_failure"][0], one["task"][2]["queue"], one["task"][2]["timeout_ms"]) == ("shell", "night", 3_600_000)
    assert run("schedule", "import", tab("@daily x"), "--prefix=box", "--tz=UTC")[2] == "1 changed\n"
    _, bare = asks.asked("set_schedule")
    assert (bare["misfire"], bare["on_failure"], bare["task"][2]["queue"]) == ("skip", [], None)


def test_a_line_of_each_boot_is_a_rule_of_each_boot(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    code, out, _ = run("schedule", "import", tab("@reboot x"))
    assert (code, [one["cron"] for one in asks.asked("set_schedule")]) == (0, ["@reboot"])
    assert out.splitlines()[1].split()[3:6] == ["@reboot", "at", "boot"]
    assert "line 1: it runs when the daemon first starts after a boot: `tq service install`" in out


def test_two_lines_that_are_alike_are_two_schedules(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    assert run("schedule", "import", tab("@daily x\n@daily x\n"))[0] == 0
    first, second = (one["name"] for one in asks.asked("set_schedule"))
    assert second == f"{first}-2"
    assert run("schedule", "import", tab("@daily x\n@daily x\n"))[2] == "2 unchanged\n"


def test_a_line_that_was_changed_is_a_new_schedule_and_the_old_one_is_named(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    assert run("schedule", "import", tab("@daily x 1"))[0] == 0
    (old,) = (one["name"] for one in asks.asked("set_schedule"))
    _, _, err = run("schedule", "import", tab("@daily x 2"))
    assert f"of this prefix, but not of this crontab: {old}\n" in err
    assert "tq schedule remove NAME" in err


def test_a_bad_line_stops_all_of_it_unless_the_rest_is_asked_for(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    text = "@daily good\n61 * * * * bad\nCRON_TZ=Mars/Base\n@daily there\n"
    code, out, err = run("schedule", "import", tab(text))
    assert (code, out, asks.requests) == (2, "", [])
    assert [line.partition(": ")[2][:7] for line in err.splitlines()] == ["line 2:", "line 4:", "nothing"]
    code, out, err = run("schedule", "import", tab(text), "--dry-run")
    assert (code, asks.asked("set_schedule")) == (2, [])
    assert "line 2: refused: expected minute" in out
    code, out, err = run("schedule", "import", tab(text), "--skip-bad")
    assert (code, err.splitlines()[0]) == (0, "1 new, 2 refused")
    assert [unpack(one["task"][1])["argv"][-1] for one in asks.asked("set_schedule")] == ["good"]


def test_a_dry_run_says_what_became_of_each_line_and_stores_nothing(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    code, out, err = run("schedule", "import", tab(TABLE), "--dry-run", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["line"] for row in rows], asks.asked("set_schedule")) == (0, [1, 2, 3, 4, 5], [])
    assert err == "2 new: nothing was stored, since this is a dry run\n"
    one = rows[-1]
    assert (one["outcome"], one["cron"], one["tz"], one["command"], one["stdin"]) == ("new", "@daily", "Europe/Paris", "cat", "one\ntwo\n")
    assert (one["env"]["TOKEN"], one["env"]["SHELL"], one["cwd"]) == ("***", "/bin/sh", ME.pw_dir)
    assert one["next_at"].endswith("Z")


def test_of_a_system_crontab_the_lines_of_other_users_are_skipped_by_name(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    code, out, err = run("schedule", "import", tab(f"@daily {ME.pw_name} mine\n@daily some-body theirs"), "--system")
    assert (code, err.splitlines()[0]) == (0, "1 new, 1 skipped")
    assert f"line 2: skipped: it is some-body's, and this is {ME.pw_name}'s tq: import it as some-body" in out
    assert [unpack(one["task"][1])["argv"][-1] for one in asks.asked("set_schedule")] == ["mine"]


def test_what_is_refused_half_way_says_how_far_it_came(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    from tests.tq.conftest import Refuse

    put = asks.verbs["set_schedule"]

    def few(args: dict[str, Any]) -> dict[str, Any]:
        if len(asks.asked("set_schedule")) > 2:
            raise Refuse("refused", "expected fewer", None)
        return put(args)  # type: ignore[no-any-return]

    asks.verbs["set_schedule"] = few
    code, _, err = run("schedule", "import", tab("@daily a\n@daily b\n@daily c\n@daily d"))
    assert (code, err) == (75, "tq: of 4 schedules 2 were stored, up to line 2. The same again goes on there.\ntq: expected fewer\n")
    asks.verbs["set_schedule"] = put
    assert run("schedule", "import", tab("@daily a\n@daily b\n@daily c\n@daily d"))[2].startswith("2 new, 2 unchanged\n")


def test_the_users_own_crontab_is_what_the_crontab_command_says(
    asks: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "crontab"
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = run("schedule", "import")
    assert (code, "expected the crontab command" in err) == (2, True)
    tool.write_text('#!/bin/sh\ntest "$*" = -l && echo "@daily mine"\n')
    tool.chmod(0o700)
    assert run("schedule", "import")[0] == 0
    tool.write_text("#!/bin/sh\necho 'no crontab for \x1bme' >&2; exit 1\n")
    code, _, err = run("schedule", "import")
    assert (code, len(asks.asked("set_schedule"))) == (2, 1)
    assert "got: no crontab for \\x1bme. Name a file instead." in err


def test_what_is_hostile_reaches_no_terminal_and_its_bytes_reach_the_command(asks: Any, run: Run, tab: Callable[[str], str]) -> None:
    text = "\x1b[2J=1\n@daily echo \x1b]0;owned\x07 \udcff é\n"
    code, out, err = run("schedule", "import", tab(text))
    assert code == 0
    assert "\x1b" not in out + err
    (one,) = asks.asked("set_schedule")
    assert unpack(one["task"][1])["argv"][-1] == b"echo \x1b]0;owned\x07 \xff \xc3\xa9"
    assert run("schedule", "import", tab(text), "--json")[0] == 0
    code, out, err = run("schedule", "import", tab("@\x1b[2J x\n"))
    assert (code, "\x1b" in out + err) == (2, False)


def test_what_is_no_crontab_is_refused_before_anything_is_asked(asks: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"#" * (5 << 20))
    for source, said in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), (tmp_path / "big", "at most 4 MiB")):
        code, out, err = run("schedule", "import", str(source))
        assert (code, out, asks.requests) == (2, "", [])
        assert said in err
