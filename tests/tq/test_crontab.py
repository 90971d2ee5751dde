"""Crontabs: each line means what cron makes of it, or says why it cannot be taken over."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.crontab import LINE_MOST, Line, read
from tq.errors import UsageError

DEBIANS = """\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
# You can also override PATH, but by default, newer versions inherit it from the environment
#PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6\t1 * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
#
"""
PACKAGES = """\
PATH=/usr/lib/sysstat:/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin
30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/e2scrub_all_cron
5-55/10 * * * * root command -v debian-sa1 > /dev/null && debian-sa1 1 1
09,39 *     * * *     root   [ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi
0 */12 * * * root test -x /usr/bin/certbot && perl -e 'sleep int(rand(43200))' && certbot -q renew
*/15 * * jan-MAR,dec mon-fri www-data\tdate +\\%F >> /tmp/day
"""


def only(text: str, users: bool = False) -> Line:
    """The last line of a crontab, which is right."""
    line = read(text, users)[-1]
    assert line.wrong == ""
    return line


def test_the_crontab_of_debian_is_four_commands_of_root_with_its_shell() -> None:
    shell, *lines = read(DEBIANS, users=True)
    assert (shell.number, shell.variable) == (2, "SHELL")
    assert [(line.number, line.cron, line.user) for line in lines] == [
        (6, "17 * * * *", "root"), (7, "25 6 * * *", "root"), (8, "47 6 * * 7", "root"), (9, "52 6 1 * *", "root"),
    ]  # fmt: skip
    assert lines[0].command == "cd / && run-parts --report /etc/cron.hourly"
    assert lines[0].argv() == ["/bin/sh", "-c", lines[0].command]
    assert not any(line.wrong for line in lines)


def test_the_crontabs_of_packages_keep_their_commands_to_the_letter() -> None:
    _, scrub, sysstat, php, certbot, day = read(PACKAGES, users=True)
    assert scrub.command == "test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/e2scrub_all_cron"
    assert (sysstat.cron, php.cron, certbot.cron) == ("5-55/10 * * * *", "09,39 * * * *", "0 */12 * * *")
    assert php.command.startswith("[ -x /usr/lib/php/sessionclean ] && if")
    assert certbot.command.endswith("perl -e 'sleep int(rand(43200))' && certbot -q renew")
    assert (day.user, day.cron, day.command) == ("www-data", "*/15 * * jan-MAR,dec mon-fri", "date +%F >> /tmp/day")
    assert day.environment("www-data", "/var/www")["PATH"].startswith("/usr/lib/sysstat:")


def test_without_users_the_word_behind_the_fields_belongs_to_the_command() -> None:
    assert only("* * * * * root x").command == "root x"


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("cat", "cat", None),
        ("cat%", "cat", ""),
        ("cat%%", "cat", "\n"),
        ("cat%a", "cat", "a\n"),
        ("cat%a%b", "cat", "a\nb\n"),
        ("cat%a%%b%", "cat", "a\n\nb\n"),
        (r"cat%a\%b", "cat", "a%b\n"),
        (r"cat%a\b\\", "cat", "a\\b\\\\\n"),
        (r"date +\%F", "date +%F", None),
        (r"date +\%F%x", "date +%F", "x\n"),
        (r"echo a\nb \c\\", "echo a\\nb \\c\\", None),
        (r"echo \\%x", "echo \\", "x\n"),
        ("echo x\\", "echo x\\", None),
        ('mail -s "It\'s 10pm" joe%Joe,%%Where are your kids?%', 'mail -s "It\'s 10pm" joe', "Joe,\n\nWhere are your kids?\n"),
    ],
)
def test_percent_signs_end_the_command_and_part_the_lines_it_reads(text: str, command: str, stdin: str | None) -> None:
    line = only(f"0 0 * * * {text}\n")
    assert (line.command, line.stdin) == (command, stdin)


@pytest.mark.parametrize("fed", ["Joe,%%Where $HOME `id` $(id) \\\\ 'are' \"your\" kids?%END%", "x", "%", "END%$2%"])
def test_a_command_reads_what_stands_behind_the_percent_sign_and_nothing_of_it_is_expanded(fed: str) -> None:
    line = only(f"@daily cat; exit 7%{fed}")
    done = subprocess.run(line.argv(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (7, line.stdin, "")
    assert line.stdin is not None
    assert line.stdin.count("\n") == max(fed.count("%") + (not fed.endswith("%")), 1)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("A=1", "A", "1"),
        ("A = 1 2 ", "A", "1 2"),
        ("  A\t=\tx", "A", "x"),
        ("A=' x '", "A", " x"),
        ('A = " x\'s " ', "A", " x's"),
        ("A=\"'x'\"", "A", "x"),
        ("'A b' = x", "A b", "x"),
        ('"A"=x=y', "A", "x=y"),
        ("A=$HOME/bin:$PATH # no comment", "A", "$HOME/bin:$PATH # no comment"),
        ("A=", "A", ""),
        ('MAILTO=""', "MAILTO", ""),
        ("A=x'y", "A", "x'y"),
    ],
)
def test_a_variable_is_read_as_cron_reads_it(text: str, name: str, value: str) -> None:
    setting, line = read(f"{text}\n@daily x", users=False)
    assert (setting.variable, dict(line.variables)) == (name, {name: value})


def test_a_variable_holds_for_the_lines_below_it_and_logname_and_defaults_are_crons() -> None:
    first, _, second, _, third = read("@daily x\nA=1\n@daily x\nA=2\n@daily x", users=False)
    assert [line.environment("me", "/home/me").get("A") for line in (first, second, third)] == [None, "1", "2"]
    usual = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "HOME": "/home/me", "LOGNAME": "me"}
    assert first.environment("me", "/home/me") == usual
    whole = only("LOGNAME=root\nHOME=/tmp\nPATH=/x\nSHELL=/bin/bash\n@daily x")
    assert whole.environment("me", "/home/me") == {"SHELL": "/bin/bash", "PATH": "/x", "HOME": "/tmp", "LOGNAME": "me"}
    assert whole.argv() == ["/bin/bash", "-c", "x"]


def test_a_command_with_an_assignment_is_no_variable() -> None:
    assert only("@daily A=1 x").command == "A=1 x"
    assert only("* * * * * A=1").command == "A=1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * * x", "expected minute hour day month weekday command, got"),
        ("* * * * *", "expected minute hour day month weekday command"),
        ("@daily", "expected time command, got '@daily'"),
        ("@daily %x", "expected a command before the first %"),
        ("@dayly x", "got '@dayly': "),
        ("@reboot", "expected time command, got '@reboot'"),
        ("61 * * * * x", "bad minute"),
        ("* 24 * * * x", "bad hour"),
        ("* * 0 * * x", "bad day-of-month"),
        ("* * * 13 * x", "bad month"),
        ("* * * * 8 x", "bad day-of-week"),
        ("*/0 * * * * x", "bad minute"),
        ("5/15 * * * * x", "minute: expected *, numbers, names of three letters, ranges and steps, got '5/15' (a step stands"),
        ("0 0 L * * x", "day: expected"),
        ("0 0 * * 5#2 x", "weekday: expected"),
        ("0 0 * january * x", "month: expected"),
        ("0 0 * * mon-sun x", "bad day-of-week"),
        ("30-10 * * * * x", "bad minute"),
        ("0 0 30 2 * x", "bad day-of-month"),
        ("٣ * * * * x", "minute: expected"),
        ("1,,2 * * * * x", "minute: expected"),
        ("* * * * * * x", "looks like a sixth"),
        ("A='x", "'A': expected a value in one pair of quotes"),
        ("A='x' y", "expected a value in one pair of quotes"),
        ("''=x", "expected the name of a variable"),
        ("@daily a\0b", "a NUL"),
        ("@daily x\r", "carriage return"),
        ("@daily " + "x" * LINE_MOST, f"at most {LINE_MOST} characters"),
    ],
)
def test_what_cron_would_refuse_or_no_schedule_can_do_is_refused_with_the_reason(text: str, said: str) -> None:
    good, bad, after = read(f"@hourly a\n{text}\n@hourly b", users=False)
    assert said in bad.wrong
    assert (bad.number, good.wrong, after.wrong) == (2, "", "")


def test_both_days_restricted_means_either_and_sunday_is_seven_too() -> None:
    rule = only("0 4 1,15 * 5 x").rule("UTC")
    start = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp() * 1000)
    days = [datetime.fromtimestamp(slot / 1000, UTC).day for slot in islice(rule.slots(start, 0), 7)]
    assert days == [1, 8, 15, 22, 29, 1, 5]
    sundays = only("0 0 * * 7 x").rule("UTC"), only("0 0 * * sun x").rule("UTC"), only("0 0 * * 0 x").rule("UTC")
    assert len({tuple(islice(rule.slots(start, 0), 9)) for rule in sundays}) == 1


def test_the_zone_is_that_of_cron_tz_and_a_time_that_the_clock_leaps_over_runs_right_after() -> None:
    line = only("TZ=Asia/Tokyo\nCRON_TZ=Europe/Paris\n30 2 * * * x")
    assert (line.zone("UTC"), only("TZ=Asia/Tokyo\n30 2 * * * x").zone("Etc/UTC")) == ("Europe/Paris", "Etc/UTC")
    spring = int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp() * 1000)
    first, second = islice(line.rule("UTC").slots(spring, 0), 2)
    assert datetime.fromtimestamp(first / 1000, UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert datetime.fromtimestamp(second / 1000, UTC) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    with pytest.raises(UsageError, match="time zone"):
        only("CRON_TZ=Nowhere/At_all\n@daily x").rule("UTC")


def test_the_name_of_a_line_is_its_own_wherever_it_stands() -> None:
    here, there = only("@daily /usr/bin/certbot -q renew"), only("# x\nMAILTO=me\nPATH=/bin\n@daily /usr/bin/certbot -q renew")
    assert here.name("cron") == there.name("cron")
    assert here.name("cron").startswith("cron-certbot-")
    same = "/usr/bin/certbot -q renew"
    others = ["@daily certbot", f"@hourly {same}", f"@daily {same}%x", f"CRON_TZ=UTC\n@daily {same}"]
    assert len({here.name("cron"), *(only(one).name("cron") for one in others)}) == 5
    assert only("@daily A=1 B=2 ./x.sh").name("p").startswith("p-x.sh-")
    assert only("@daily [ -x /x ]").name("p").startswith("p-command-")
    assert only("@daily \x1b]0;evil\x07\udcff é x").name("p").startswith("p-0-evil-")
    assert only("@daily x\n@daily a", users=False).name("p") != only("@daily x").name("p")


@given(st.text(st.characters(), max_size=200) | st.text("*0123456789/-, %\\'\"=@daily\n\t", max_size=80), st.booleans())
def test_any_text_is_read_without_an_exception_and_every_line_is_accounted_for(text: str, users: bool) -> None:
    found = read(text, users)
    there = [at for at, line in enumerate(text.split("\n"), 1) if line.strip() and not line.lstrip(" \t").startswith("#")]
    assert [line.number for line in found] == there
    for line in found:
        assert bool(line.wrong) + bool(line.variable) + bool(line.command) == 1
        if line.command:
            assert line.name("p").isascii()
            assert line.argv()[1] == "-c"
