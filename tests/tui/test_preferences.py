"""What a person wants of the monitor: the table of the settings file and the options before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tq.config import load_settings
from tq.errors import ConfigError
from tui.app import MonitorApp
from tui.preferences import Preferences, preferences_of


def write(where: Path, text: str) -> None:
    (where / "tq.toml").write_text(text)
    (where / "tq.toml").chmod(0o600)


def test_without_a_file_all_is_as_usual(where: Path) -> None:
    assert preferences_of(str(where), {}) == Preferences()


def test_the_table_is_read_and_the_daemon_lets_it_stand(where: Path) -> None:
    write(where, '[monitor]\ntheme = "tq-light"\ncharts = "braille"\nread_only = true\nwindow = "2h"\n[monitor.keys]\nfreeze = "f9"\n')
    found = preferences_of(str(where), {})
    assert (found.theme, found.charts, found.read_only, found.window, found.keys) == ("tq-light", "braille", True, "2h", {"freeze": "f9"})
    assert load_settings({"data_dir": str(where)}, {}).file == where / "tq.toml"


def test_no_motion_is_wished_for_by_the_file_the_environment_or_an_option(where: Path) -> None:
    assert preferences_of(str(where), {"TEXTUAL_ANIMATIONS": "none"}).reduce_motion
    assert preferences_of(str(where), {}).given(reduce_motion=True).reduce_motion
    write(where, "[monitor]\nreduce_motion = true\nremember = false\n")
    found = preferences_of(str(where), {})
    assert (found.reduce_motion, found.remember) == (True, False)


def test_options_go_before_the_file(where: Path) -> None:
    write(where, '[monitor]\ncharts = "braille"\nmouse = true\n')
    found = preferences_of(str(where), {}).given(charts="ascii", mouse=False, theme=None)
    assert (found.charts, found.mouse, found.theme) == ("ascii", False, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("monitor = 3\n", "monitor"), ('[monitor]\nthem = "x"\n', "Did you mean 'theme'"),
        ('[monitor]\nmouse = "no"\n', "mouse: expected true or false"), ('[monitor]\nwindow = "1h"\n', "window: expected 10m"),
        ('[monitor]\ncharts = "pie"\n', "charts: expected braille or block or ascii"),
        ("[monitor.keys]\nfreeze = 3\n", "keys: expected keys such as"), ('[monitor]\ntheme = ""\n', "theme: expected a text"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_names_the_key(where: Path, text: str, says: str) -> None:
    write(where, text)
    with pytest.raises(ConfigError) as refused:
        preferences_of(str(where), {})
    assert says in str(refused.value)
    assert "tq.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"frieze": "f9"}, "expected the id of an action, got 'frieze'"),
        ({"freeze": "q"}, "expected one action on 'q'"),
        ({"overview.window": "Z"}, "expected one action on 'Z'"),
    ],
)
def test_a_key_map_names_what_there_is_and_takes_no_key_from_another(where: Path, keys: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MonitorApp(str(where), Preferences(keys=keys), environ={})


def test_charts_are_drawn_with_what_the_locale_has(where: Path) -> None:
    assert preferences_of(str(where), {"LANG": "C"}).charts == "ascii"
    assert preferences_of(str(where), {"LANG": "C", "LC_ALL": "en_GB.UTF-8"}).charts == "block"
    assert preferences_of(str(where), {"TERM": "dumb"}).ascii
