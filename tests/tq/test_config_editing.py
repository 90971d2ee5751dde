"""tq.config.editing: a settings file changed for a person, and nothing in it that was not asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tq.config import editing, tables
from tq.config.editing import KEYS, Sources, edited, problems, replace_file, schema
from tq.config.settings import OPTIONS, UNITS, Settings, check_option
from tq.errors import ConfigError

FILE = """# of the shop
[workers]  # who works
# two are enough
count = 3   # why
slots = 2

# mail is slow
[queues.mail]
slots = 2
"""


def text_after(text: str, **changes: object) -> str:
    """The file's new text; keys with __ for the point."""
    return edited(
        tables.Text(Path("/etc/tq.toml"), text.encode()), {key.replace("__", "."): one for key, one in changes.items()}
    ).text.decode()


def test_what_was_not_asked_for_keeps_its_place_its_words_and_its_comments() -> None:
    changed = text_after(FILE, workers__count="4", workers__recycle="500", daemon__grace="90s", logging__level="debug")
    wanted = FILE.replace("count = 3", "count = 4").replace("slots = 2\n\n#", "slots = 2\nrecycle = 500\n\n#")
    assert changed == wanted + '\n[daemon]\ngrace = "90s"\n\n[logging]\nlevel = "debug"\n'
    assert text_after(changed, workers__count="", workers__slots=None) == changed.replace("count = 4   # why\nslots = 2\nrec", "rec")
    assert text_after(FILE, retention__failed=None) == FILE


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", "[workers]\ncount = 5\nslots = 3\n"),
        (
            "workers = 3 # own\nkeep_ms = 5\n\n[queues.mail]\nslots=2\n",
            "workers = 5 # own\nkeep_ms = 5\nslots = 3\n\n[queues.mail]\nslots=2\n",
        ),
        ("workers.count = 3 # dotted\n", "workers.count = 5 # dotted\nworkers.slots = 3\n"),
        ("[queues.mail]\r\nslots=2\r\n", "[queues.mail]\r\nslots=2\r\n\n[workers]\ncount = 5\nslots = 3\n"),
        ('[workers]\n"count" = 1', '[workers]\n"count" = 5\nslots = 3\n'),
    ],
)
def test_each_form_of_a_file_is_changed_in_its_own_form(text: str, after: str) -> None:
    assert text_after(text, workers__count=5, workers__slots=3) == after


def test_at_the_top_of_a_file_a_setting_stands_in_its_own_unit() -> None:
    assert text_after("keep_ms = 5\n", retention__finished="7d") == "keep_ms = 604800000\n"


def test_a_file_of_an_unusual_form_is_left_to_people() -> None:
    with pytest.raises(ConfigError, match=r"expected a file that can be changed here.*by hand"):
        text_after("workers.count = 3\nlogging.level = 'info'\nworkers.slots = 1\n", workers__count=2)
    with pytest.raises(ConfigError, match="below 1048576 bytes"):
        text_after("#" * editing.FILE_MOST, workers__count=2)
    with pytest.raises(ConfigError, match="expected TOML"):
        text_after("workers = ", workers__count=2)


def test_what_cannot_be_is_told_by_key_in_the_words_of_the_file() -> None:
    changes = {
        "workers.count": "x", "worker.count": 1, "retention.failed": "9y", "daemon.max_payload": "1T", "logging.level": "loud",
        "daemon.grace": "25s", "workers.slots": "1.5", "daemon.app": " ", "workers.scale_cooldown": float("nan"),
    }  # fmt: skip
    assert dict(problems(changes)) == {
        "workers.count": "expected a whole number of processes, 0 to 1024, got 'x'",
        "worker.count": "changes: expected a setting, got 'worker.count'. Did you mean 'workers.count'?",
        "retention.failed": "expected a duration such as 90s or 7d, 0 to 36600d, got '9y'",
        "daemon.max_payload": "expected bytes, or a size such as 256K or 1G, 1K to 512M, got '1T'",
        "logging.level": "expected debug, info, warning or error, got 'loud'",
        "workers.slots": "expected a whole number of tasks, 1 to 4096, got '1.5'",
        "workers.scale_cooldown": "expected a duration such as 90s or 7d, 100ms to 1d, got nan",
    }


def test_every_option_has_a_key_and_a_default_that_reads_as_itself() -> None:
    assert sorted(KEYS.values()) == sorted(OPTIONS)
    for row in schema():
        name = KEYS[row["key"]]
        value = tables.in_unit(UNITS[name], editing.word_of(name, row["default"]))
        assert value == editing.default_of(name)
        if value is not None:
            check_option(name, value)
        assert row["expects"]
        assert row["says"].endswith(".")


def test_nonsense_that_stands_in_a_file_is_told_as_it_is() -> None:
    for unit in ("seconds", "milliseconds", "bytes", "tasks"):
        for value in (float("inf"), float("nan"), -1, 1e300, 10**400, "soon", [1]):
            assert tables.written(unit, tables.in_unit(unit, value))
    file = tables.Text(Path("/x"), b"[retention]\nfinished = 1e308\n[daemon]\ngrace = inf\nmax_payload = -5\n")
    assert editing.in_file(file) == {"retention.finished": "1e+308", "daemon.grace": "inf", "daemon.max_payload": "-5"}


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("tasks", 7, "7"), ("seconds", 90.0, "1m30s"), ("seconds", 0.1, "100ms"), ("seconds", 0.0001, "0.0001"),
        ("milliseconds", 0, "0"),
        ("milliseconds", 93_784_005, "1d2h3m4s5ms"), ("bytes", 1536, "1536"), ("bytes", 3 << 20, "3M"), ("bytes", 0, "0"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_it_is_read(unit: str, value: object, text: str) -> None:
    assert tables.written(unit, value) == text
    read = float(text) if "." in text else int(text) if text.isdigit() else text
    assert tables.in_unit(unit, read) == value


def test_a_file_is_replaced_whole_with_its_mode_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "tq.toml"
    real.write_text("slots = 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    replace_file(tables.Text(link, b"slots = 2\n"))
    assert (real.read_text(), real.stat().st_mode & 0o777, link.is_symlink()) == ("slots = 2\n", 0o640, True)
    replace_file(tables.Text(tmp_path / "new.toml", b"slots = 3\n"))
    assert (tmp_path / "new.toml").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=r"expected a file that can be written, got: No such file or directory\. Nothing was changed"):
        replace_file(tables.Text(tmp_path / "none" / "tq.toml", b""))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new.toml", "real.toml", "tq.toml"]


def test_a_file_whose_owner_cannot_be_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tq.toml"
    file.write_text("slots = 1\n")
    real = os.fstat

    def another(number: int) -> os.stat_result:
        return os.stat_result((*real(number)[:4], 12_345, *real(number)[5:]))

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fstat", another)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(ConfigError, match="Operation not permitted"):
        replace_file(tables.Text(file, b"slots = 2\n"))
    assert file.read_text() == "slots = 1\n"
    assert [one.name for one in tmp_path.iterdir()] == ["tq.toml"]


def test_a_program_that_gives_settings_is_a_source_like_the_command_line(tmp_path: Path) -> None:
    sources = Sources.fixed(Settings(data_dir=tmp_path, workers=7))
    assert sources.file().path == tmp_path / "tq.toml"
    (tmp_path / "tq.toml").write_text("workers = 3\nslots = 4\n")
    settings, said = sources.load()
    assert (settings.workers, settings.slots, said["workers"]) == (7, 4, "the command line")
