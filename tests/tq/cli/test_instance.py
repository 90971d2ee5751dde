"""``tq doctor|compact|restore|config``, as a person calls them; with a real daemon where there is one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.config.settings import OPTIONS
from tq.doctor import CHECKS

Run = Callable[..., tuple[int, str, str]]
Tq = Callable[..., subprocess.CompletedProcess[str]]


# settings


def test_settings_are_shown_as_a_file_takes_them_with_who_said_so(run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data_dir / "tq.toml").write_text('app = "caf\\u00e9.py"\nworkers = 3\nmin_workers = 1\n')
    monkeypatch.setenv("TQ_WORKERS", "2")
    code, out, _ = run("config", "show")
    lines = dict(line.split("  # ")[:2] for line in out.splitlines() if "  # " in line)
    assert (code, {key.strip(): value for key, value in lines.items()}) == (
        0, {'app = "caf\\u00e9.py"': f"{data_dir}/tq.toml", "workers = 2": "TQ_WORKERS"},
    )  # fmt: skip
    assert "# min_workers is not set" in out  # the variable, which came later, means both
    (data_dir / "tq.toml").write_text(out)  # what was shown is a settings file
    monkeypatch.delenv("TQ_WORKERS")
    found = json.loads(run("config", "show", "--json")[1])
    assert set(found) == set(OPTIONS)
    assert found["workers"] == {"value": 2, "source": f"{data_dir}/tq.toml"}
    assert found["min_workers"] == {"value": None, "source": "default"}


def test_settings_are_checked_before_a_daemon_needs_them(run: Run, data_dir: Path) -> None:
    assert run("config", "check") == (0, "", "the settings are sound; all are the defaults\n")
    (data_dir / "tq.toml").write_text("workers = 3\n")
    assert run("config", "check")[2] == f"the settings are sound; 1 of {len(OPTIONS)} are set\n"
    (data_dir / "tq.toml").write_text("workers = -3\n")
    code, out, err = run("config", "check")
    assert (code, out, "workers: expected a whole number of processes, at least 0" in err) == (2, "", True)


def test_settings_are_set_in_the_file_where_no_daemon_runs(run: Run, data_dir: Path) -> None:
    file = data_dir / "tq.toml"
    file.write_text("# ours\n[workers]\ncount = 3 # three\n")
    assert run("config", "set", "workers.count=4", "retention.failed=14d", "--dry-run") == (0, "", "they can be; nothing was changed\n")
    assert "count = 3" in file.read_text()
    assert run("config", "set", "workers.count=4", "retention.failed=14d")[::2] == (0, "written; no daemon runs, the next one has them\n")
    assert file.read_text() == '# ours\n[workers]\ncount = 4 # three\n\n[retention]\nfailed = "14d"\n'
    assert run("config", "set", "workers.count=", "retention.failed=")[0] == 0
    assert "=" not in file.read_text()
    for words, says in (
        (["workers.cuont=4"], "Did you mean 'workers.count'"),
        (["workers.count=many"], "workers.count: expected a whole number of processes"),
        (["workers.count"], "config set: expected K=V, got 'workers.count'"),
        (["daemon.max_payload=9M"], "daemon.max_payload: expected at most max_frame"),
    ):  # fmt: skip
        code, out, err = run("config", "set", *words)
        assert (code, out, says in err, len(err.splitlines())) == (2, "", True, 1), err


def test_settings_are_set_in_a_daemon_that_runs_and_it_says_what_waits(run: Run, fake: Any) -> None:
    asked: list[dict[str, Any]] = []
    fake.verbs["config"] = lambda args: {"revision": "r1"} if args["ask"] == "get" else {"errors": []}
    done = {"revision": "r2", "applied": ["logging.level"], "waits": ["daemon.app"], "wins": {"daemon.grace": "TQ_GRACE_S"}}
    fake.verbs["configure"] = lambda args: asked.append(args) or done
    code, out, err = run("config", "set", "logging.level=debug", "daemon.app=x", "daemon.grace=9s")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "logging.level: counts now", "daemon.app: waits for the daemon's next start: `tq daemon restart`",
        "daemon.grace: no effect while TQ_GRACE_S says otherwise",
    ]  # fmt: skip
    assert asked == [{"changes": {"logging.level": "debug", "daemon.app": "x", "daemon.grace": "9s"}, "revision": "r1"}]


# the doctor


def test_the_doctor_says_what_is_wrong_and_exits_with_one(run: Run, data_dir: Path) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "nothing is wrong\n"), out
    (data_dir / "tq.toml").write_text("workers = -3\n")
    code, out, err = run("doctor")
    assert code == 1
    assert "things are wrong" in err
    code, out, _ = run("doctor", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, {row["check"] for row in rows}) == (1, set(CHECKS))
    assert {"check", "level", "found", "advice"} == set(rows[0])
    assert "wrong" in [row["level"] for row in rows if row["check"] == "settings"]


def test_the_doctor_looks_at_a_directory_that_is_a_ruin(run: Run, data_dir: Path) -> None:
    (data_dir / "store").write_text("not a directory")
    (data_dir / "lock").mkdir()
    (data_dir / "logs").symlink_to("/nowhere/at/all")
    (data_dir / "run").write_text("")
    (data_dir / "daemon.log").write_bytes(b"\xff\x1b[31m\n{}\n[]\n" * 10)
    (data_dir / "tq.toml").write_bytes(b"\xff")
    code, out, _ = run("doctor", "--json")
    assert code == 1
    assert {json.loads(line)["check"] for line in out.splitlines()} == set(CHECKS)


# compaction and restoring


@pytest.mark.flow
def test_a_store_is_compacted_while_its_daemon_runs_and_its_tasks_go_on(tq: Tq, daemon: Callable[..., Any], data_dir: Path) -> None:
    daemon(workers=1)
    assert tq("queue", "pause", "later").returncode == 0
    lines = "".join(json.dumps({"type": "x", "payload": "x" * 2000, "queue": "later", "allow_unknown": True}) + "\n" for _ in range(2000))
    assert tq("enqueue", "--batch", "-", input=lines).returncode == 0
    running = tq("add", "--", "sh", "-c", "sleep 1; echo done").stdout.strip()
    assert tq("queue", "purge", "later", "--wait").returncode == 0
    done = tq("compact", "--json")
    found = json.loads(done.stdout)
    assert found["after"] < found["before"] / 3
    assert 0 < found["paused"] < 10
    assert (data_dir / "store" / "data.mdb").stat().st_size < found["before"] / 3
    assert tq("wait", running).returncode == 0
    assert tq("log", running).stdout == "done\n"
    assert tq("add", "--wait", "--", "true").returncode == 0
    assert "MiB now; all others waited" in tq("compact").stderr
    assert [json.loads(line)["what"] for line in tq("events", "--json").stdout.splitlines()].count("compacted") == 2
    assert tq("verify").returncode == 0
    assert tq("daemon", "stop").returncode == 0
    assert tq("verify").returncode == 0


def test_a_store_is_compacted_without_a_daemon(run: Run, data_dir: Path) -> None:
    code, out, err = run("compact")
    assert (code, out, "expected a store, found nothing" in err) == (2, "", True)
    from tq.store.lmdb import LmdbStore

    LmdbStore(data_dir / "store").close()
    code, out, err = run("compact")
    assert (code, out, "waited" in err) == (0, "", False)
    assert json.loads(run("compact", "--json")[1])["paused"] == 0


@pytest.mark.flow
def test_a_backup_is_restored_and_what_ran_then_is_run_again(
    tq: Tq, daemon: Callable[..., Any], data_dir: Path, until: Any, tmp_path: Path
) -> None:
    one = daemon(workers=1)
    first = tq("add", "--wait", "--", "echo", "first").stdout.strip()
    gate = tmp_path / "gate"
    running = tq("add", "--", "sh", "-c", f"echo began >> {tmp_path}/runs; while [ ! -e {gate} ]; do sleep 0.05; done").stdout.strip()
    until((tmp_path / "runs").exists)
    assert tq("backup", tmp_path / "copy").returncode == 0
    gate.touch()
    assert tq("wait", running).returncode == 0
    later = tq("add", "--wait", "--", "true").stdout.strip()

    refused = tq("restore", tmp_path / "copy")
    assert (refused.returncode, "tq daemon stop" in refused.stderr) == (69, True)
    one.stop()
    done = tq("restore", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    aside = Path(done.stdout.strip())
    assert aside.parent == data_dir
    assert (aside / "data.mdb").is_file()
    assert f"restored {running} tasks" in done.stderr
    one.start()
    assert tq("wait", first, running).returncode == 0
    assert (tmp_path / "runs").read_text() == "began\nbegan\n"
    row = json.loads(tq("show", running, "--json").stdout)
    assert [attempt["outcome"] for attempt in row["attempts"]] == ["interrupted", "succeeded"]
    assert tq("log", first).stdout == "first\n"
    assert tq("status", later).returncode == 66
    assert int(tq("add", "--", "true").stdout) == int(later) + 1


def test_queues_of_the_file_are_shown_and_checked_with_the_rest(run: Run, data_dir: Path) -> None:
    path = data_dir / "tq.toml"
    assert run("config", "path")[:2] == (0, f"{path}\n")
    assert "no settings file yet" in run("config", "path")[2]
    path.write_text('slots = 2\n[queues."night shift"]\nworkers = 3\nroute = ["a.*"]\n')
    assert run("config", "path") == (0, f"{path}\n", "")
    assert run("config", "check")[2] == f"the settings are sound; 1 of {len(OPTIONS)} are set, and settings of 1 queues\n"
    shown = run("config", "show")[1]
    assert '\n[queues."night shift"]\nworkers = 3 ' in shown
    found = json.loads(run("config", "show", "--json")[1])
    assert found["queues.night shift.route"] == {"value": ["a.*"], "source": str(path)}
    path.write_text(shown)  # what was shown is a settings file
    assert run("config", "check")[0] == 0
    path.write_text("[limits.mail]\ntype = 'email'\nrate = '9/m'\n")
    assert run("config", "check")[2].endswith(", and 1 limits\n")
    assert '\n[limits."mail"]\ntype = "email"' in run("config", "show")[1]
    path.write_text("[limits.mail]\ntyp = 'email'\n")
    assert "[limits.mail]: expected a setting of a limit, got 'typ'. Did you mean 'type'" in run("config", "check")[2]
    path.write_text("[queues.mail]\nworkres = 3\n")
    for words in (("config", "check"), ("config", "show")):
        code, out, err = run(*words)
        assert (code, out, "[queues.mail]: expected a setting of a queue, got 'workres'. Did you mean 'workers'" in err) == (2, "", True)
    code, out, _ = run("doctor", "--json")
    assert (code, "workres" in out) == (1, True)
