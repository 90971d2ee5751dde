"""tq.config: where an instance may live, and where settings come from."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tq.config import Settings, data_dir_of, load_settings, prepare_data_dir
from tq.config.settings import OPTIONS
from tq.errors import ConfigError
from tq.model import MAX_DURATION_MS

NONE: dict[str, str] = {}


def test_the_option_wins_over_the_variable_and_the_variable_over_the_default() -> None:
    env = {"TQ_DATA_DIR": "/v", "XDG_STATE_HOME": "/s"}
    assert data_dir_of("/o", env) == "/o"
    assert data_dir_of(Path("/o"), env) == "/o"
    assert data_dir_of(None, env) == "/v"
    assert data_dir_of(None, {"XDG_STATE_HOME": "/s"}) == "/s/tq"


def test_root_lives_in_var_lib_and_everybody_else_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home-of-somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_dir_of(None, NONE) == "/var/lib/tq"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert data_dir_of(None, NONE) == "/home-of-somebody/.local/state/tq"


def test_a_relative_directory_is_made_absolute_and_an_empty_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_dir_of("here", NONE) == str(tmp_path / "here")
    with pytest.raises(ConfigError, match="got nothing"):
        data_dir_of("", NONE)


def test_asking_for_the_directory_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); from tq.config import data_dir_of; data_dir_of('/x'); print(*set(sys.modules) - before)"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
    assert {name for name in loaded if not name.startswith(("tq", "__future__"))} == set()


def test_a_new_directory_is_for_its_owner_only(data_dir: Path) -> None:
    old = os.umask(0)
    try:
        made = prepare_data_dir(data_dir / "a" / "b", NONE)
    finally:
        os.umask(old)
    assert made == data_dir / "a" / "b"
    assert made.stat().st_mode & 0o777 == 0o700
    assert prepare_data_dir(made, NONE) == made


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(data_dir: Path, mode: int) -> None:
    data_dir.chmod(mode)
    with pytest.raises(ConfigError, match=f"got mode {mode:04o}.*chmod 700"):
        prepare_data_dir(data_dir, NONE)


def test_a_directory_of_another_user_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = data_dir.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"expected a directory of user {owner + 1}, got one of user {owner}"):
        prepare_data_dir(data_dir, NONE)


def test_a_link_and_a_file_are_no_data_directory(data_dir: Path) -> None:
    (data_dir / "real").mkdir(mode=0o700)
    (data_dir / "link").symlink_to(data_dir / "real")
    (data_dir / "file").write_text("")
    with pytest.raises(ConfigError, match=rf"symbolic link.*--data-dir {data_dir}/real"):
        prepare_data_dir(data_dir / "link", NONE)
    with pytest.raises(ConfigError, match="got a file"):
        prepare_data_dir(data_dir / "file", NONE)
    with pytest.raises(ConfigError, match=r"can be made, got: (Not a directory|File exists)"):
        prepare_data_dir(data_dir / "file" / "below", NONE)


def test_a_path_with_107_bytes_for_the_socket_is_taken_and_one_with_108_refused(data_dir: Path) -> None:
    room = 107 - len(os.fsencode(f"{data_dir}//tq.sock"))
    prepare_data_dir(data_dir / ("d" * room), NONE)
    with pytest.raises(ConfigError, match="at most 107 bytes, got 108"):
        prepare_data_dir(data_dir / ("d" * (room + 1)), NONE)
    assert not (data_dir / ("d" * (room + 1))).exists()
    with pytest.raises(ConfigError, match="107 bytes"):  # bytes are counted, not characters
        prepare_data_dir(data_dir / ("ü" * (room // 2 + 1)), NONE)


def _mounts(data_dir: Path, *mounts: tuple[str, str]) -> str:
    path = data_dir / "mountinfo"
    lines = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"]
    lines += [f"{30 + i} 22 0:{40 + i} / {point} rw master:2 - {kind} source rw" for i, (point, kind) in enumerate(mounts)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_refused_unless_somebody_knows_better(data_dir: Path, kind: str) -> None:
    mounts = _mounts(data_dir, (str(data_dir), kind))
    with pytest.raises(ConfigError, match=f"local file system, got {kind}"):
        prepare_data_dir(data_dir / "x", NONE, mounts)
    prepare_data_dir(data_dir / "x", {"TQ_ALLOW_NETWORK_FS": "1"}, mounts)


def test_the_nearest_mount_decides_and_a_later_one_covers_an_earlier(data_dir: Path) -> None:
    place = data_dir / "my disk"
    point = str(place).replace(" ", "\\040")
    prepare_data_dir(place, NONE, _mounts(data_dir, (str(data_dir), "nfs"), (point, "xfs")))
    prepare_data_dir(place, NONE, _mounts(data_dir, (point, "nfs"), (point, "ext4")))
    prepare_data_dir(place, NONE, _mounts(data_dir, (str(data_dir) + "/my", "nfs")))  # a neighbour with the same beginning
    prepare_data_dir(place, NONE, str(data_dir / "no such list"))
    with pytest.raises(ConfigError, match="got nfs"):
        prepare_data_dir(place, NONE, _mounts(data_dir, (point, "ext4"), (point, "nfs")))


def test_defaults_are_those_of_the_manual(data_dir: Path) -> None:
    settings = load_settings({"data_dir": data_dir}, NONE)
    assert settings.data_dir == data_dir
    assert settings.workers == len(os.sched_getaffinity(0))
    assert (settings.slots, settings.grace_s, settings.kill_grace_s) == (1, 25.0, 5.0)
    assert (settings.max_payload, settings.max_result, settings.log_bytes) == (262144, 65536, 1048576)
    assert (settings.queue_tasks, settings.queue_bytes) == (20_000_000, 16 << 30)
    assert (settings.keep, settings.keep_ms, settings.keep_failed_ms) == (100_000, 604_800_000, 2_592_000_000)


def test_every_option_has_a_unit_and_a_sentence() -> None:
    for option in OPTIONS.values():
        assert option.metadata["unit"]
        assert option.metadata["says"].endswith(".")


def test_the_command_line_wins_over_the_environment_and_the_environment_over_the_file(data_dir: Path) -> None:
    (data_dir / "tq.toml").write_text('workers = 3\nslots = 4\nlog_level = "debug"\napp = "mine"\ngrace_s = 7\n')
    env = {"TQ_WORKERS": "5", "TQ_SLOTS": "6", "TQ_APP": "theirs", "TQ_TASK_ID": "9", "TQ_LOG_LEVEL": ""}
    settings = load_settings({"data_dir": str(data_dir), "workers": 7, "app": None}, env)
    assert (settings.workers, settings.slots, settings.log_level, settings.app, settings.grace_s) == (7, 6, "debug", "theirs", 7)


def test_the_users_file_is_read_where_the_instance_has_none(data_dir: Path) -> None:
    (data_dir / "config" / "tq").mkdir(parents=True)
    (data_dir / "config" / "tq" / "tq.toml").write_text("workers = 3\n")
    env = {"XDG_CONFIG_HOME": str(data_dir / "config")}
    assert load_settings({"data_dir": data_dir}, env).workers == 3
    (data_dir / "tq.toml").write_text("slots = 2\n")
    assert load_settings({"data_dir": data_dir}, env).slots == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wrokers = 3", r"got 'wrokers'\. Did you mean 'workers'"),
        ("zzz = 3", r"The settings are: app, workers,"),
        ('data_dir = "/x"', r"give --data-dir or TQ_DATA_DIR instead"),
        ('workers = "3"', r"workers: expected a whole number of processes, at least 0 and at most 1024, got '3'"),
        ("workers = true", r"got True"),
        ("workers = 2000", r"got 2000"),
        ("workers = 1.5", r"got 1\.5"),
        ("grace_s = nan", r"got nan"),
        ('log_level = "loud"', r"expected debug or info or warning or error, got 'loud'"),
        ("app = 3", r"expected a text, got 3"),
        ("workers = ", r"expected TOML, got: .*line 1"),
        ("max_payload = 2000000", r"max_payload: expected at most max_frame"),
    ],
)
def test_a_bad_line_of_the_file_is_refused_with_what_to_do(data_dir: Path, text: str, says: str) -> None:
    (data_dir / "tq.toml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=says):
        load_settings({"data_dir": data_dir}, NONE)


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if not str(option.type).startswith("str")])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "-1", "1" + "0" * 25])
def test_no_number_is_beyond_what_the_daemon_can_count_to(data_dir: Path, name: str, value: str) -> None:
    says = f"{name}: expected a (whole )?number of [a-z]+, at least [0-9.]+ and at most [0-9]+, got "
    with pytest.raises(ConfigError, match=f"^TQ_{name.upper()}: {says}"):
        load_settings({"data_dir": data_dir}, {f"TQ_{name.upper()}": value})
    (data_dir / "tq.toml").write_text(f"{name} = {value}\n")
    with pytest.raises(ConfigError, match=says):
        load_settings({"data_dir": data_dir}, NONE)


def test_what_the_daemon_resolves_for_a_task_may_be_no_longer_than_a_task_may_say() -> None:
    for name, option in OPTIONS.items():
        unit, high = option.metadata["unit"], option.metadata["high"]
        if unit in ("seconds", "milliseconds"):
            assert high * (1000 if unit == "seconds" else 1) <= MAX_DURATION_MS, name


def test_a_file_that_others_can_write_is_not_believed(data_dir: Path) -> None:
    (data_dir / "tq.toml").write_text('app = "evil"\n')
    (data_dir / "tq.toml").chmod(0o666)
    with pytest.raises(ConfigError, match="mode 0666: it names code to run"):
        load_settings({"data_dir": data_dir}, NONE)


def test_a_file_that_is_not_text_is_refused(data_dir: Path) -> None:
    (data_dir / "tq.toml").write_bytes(b"app = '\xff'")
    with pytest.raises(ConfigError, match=r"expected TOML, got: .*utf-8"):
        load_settings({"data_dir": data_dir}, NONE)
    (data_dir / "tq.toml").unlink()
    (data_dir / "tq.toml").mkdir()
    with pytest.raises(ConfigError, match="can be read, got: Is a directory"):
        load_settings({"data_dir": data_dir}, NONE)


def test_a_bad_variable_or_argument_names_itself(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"TQ_WORKERS: workers: expected a whole number of processes.*got 'many'"):
        load_settings({"data_dir": data_dir}, {"TQ_WORKERS": "many"})
    with pytest.raises(ConfigError, match=r"slots: expected a whole number of tasks, at least 1.*got 0"):
        load_settings({"data_dir": data_dir, "slots": 0}, NONE)
    with pytest.raises(ConfigError, match=r"the command line: expected a setting, got 'wokers'. Did you mean 'workers'"):
        load_settings({"data_dir": data_dir, "wokers": 0}, NONE)


def test_settings_cannot_be_changed_after_they_were_checked(data_dir: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(data_dir=data_dir).workers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "env", "found"),
    [
        ({"workers": 3}, {}, (3, 3)),
        ({"workers": 3}, {"TQ_MIN_WORKERS": "1", "TQ_MAX_WORKERS": "9"}, (3, 3)),  # a later word for both is for both
        ({"min_workers": 1, "max_workers": 4}, {}, (1, 4)),
        ({"max_workers": 4}, {"TQ_WORKERS": "2"}, (2, 4)),
        ({"max_workers": 1}, {"TQ_WORKERS": "2"}, (1, 1)),
        ({"min_workers": 5}, {"TQ_WORKERS": "2"}, (5, 5)),
        ({"workers": 2, "min_workers": 0}, {}, (0, 2)),
        ({"workers": 0}, {}, (0, 0)),
    ],
)
def test_the_number_of_workers_is_one_or_follows_the_work_between_two(
    given: dict[str, object], env: dict[str, str], found: tuple[int, int], data_dir: Path
) -> None:
    assert load_settings({"data_dir": str(data_dir), **given}, env).worker_range == found


def test_fewest_workers_above_the_most_are_refused(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="expected at most max_workers = 2, got 3"):
        load_settings({"data_dir": str(data_dir), "min_workers": 3, "max_workers": 2}, NONE)
    with pytest.raises(ConfigError, match="min_workers"):
        load_settings({"data_dir": str(data_dir), "min_workers": -1}, NONE)


def test_tables_name_the_same_settings_with_durations_and_sizes_in_words(data_dir: Path) -> None:
    text = (
        "[daemon]\ngrace = '1m30s'\nmax_payload = '128K'\n[workers]\ncount = 3\nkill_grace = 2\n[retention]\nfinished = '1.5d'\nkeys = 60\n"
    )
    (data_dir / "tq.toml").write_text(text + "[logging]\nlevel = 'debug'\ntask_bytes = '2M'\n[queues.mail]\nworkers = 2\n")
    settings = load_settings({"data_dir": data_dir}, NONE)
    assert (settings.grace_s, settings.kill_grace_s, settings.max_payload, settings.log_bytes) == (90, 2, 128 << 10, 2 << 20)
    assert (settings.workers, settings.keep_ms, settings.keep_keys_ms, settings.log_level) == (3, 129_600_000, 60_000, "debug")
    assert (settings.queues, settings.file) == ({"mail": {"workers": 2}}, data_dir / "tq.toml")
    assert load_settings({"data_dir": data_dir, "workers": 5}, {"TQ_GRACE_S": "7"}).grace_s == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[workers]\ncuont = 3", r"tq\.toml: \[workers\]: expected a setting, got 'cuont'\. Did you mean 'count'"),
        ("[workers]\nlevel = 3", r"It belongs into \[logging\]"),
        ("[worker]\ncount = 3", r"Did you mean the table \[workers\]"),
        ("[queue.mail]\nslots = 3", r"Did you mean the table \[queues\]"),
        ("[monitr]\nx = 3", r"Did you mean the table \[monitor\]"),
        ("monitor = 3", "expected a setting, got 'monitor'"),
        ("[queues]\nslots = 3", r"expected tables such as \[queues\.mail\], got slots = 3"),
        ("workers = 2\n[workers]\ncount = 3", "expected TOML, got: Cannot overwrite"),  # which TOML itself refuses
        ("slots = 2\n[workers]\nslots = 3", "expected slots once"),
        ("[workers]\ncount = '3'", r"workers: expected a whole number of processes.*got '3'"),
        ("[daemon]\ngrace = 'soon'", r"grace_s: expected a number of seconds.*got 'soon'"),
        ("[daemon]\ngrace = -1", "got -1"),
        ("[retention]\nfinished = inf", "keep_ms: expected a whole number of milliseconds"),
        ("[daemon]\nmax_payload = '1X'", "got '1X'"),
    ],
)
def test_a_bad_table_is_refused_with_what_to_do(data_dir: Path, text: str, says: str) -> None:
    (data_dir / "tq.toml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=says):
        load_settings({"data_dir": data_dir}, NONE)
