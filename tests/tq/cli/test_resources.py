"""``tq resource list|set|remove``, ``--slots`` and ``--use``, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


def resource(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "amount": 2, "in_use": 0, "tasks": [], "kept_for": None, **changes}


def test_a_resource_is_set_and_a_new_one_is_said(fake: Any, run: Run) -> None:
    fake.verbs["set_resource"] = lambda _: {"new": True}
    assert run("resource", "set", "gpu", "2") == (
        0, "", "resource gpu is new: `tq add --use gpu` takes 1 of it. `tq resource list` shows those there are.\n",
    )  # fmt: skip
    fake.verbs["set_resource"] = lambda _: {"new": False}
    assert run("resource", "set", "gpu", "0") == (0, "", "")
    assert fake.asked("set_resource") == [{"name": "gpu", "amount": 2}, {"name": "gpu", "amount": 0}]


def test_what_the_settings_file_will_say_again_is_told(fake: Any, run: Run) -> None:
    fake.verbs["set_resource"] = fake.verbs["remove_resource"] = lambda _: {"new": False, "declared": 3}
    words = "the settings file says 3 of resource gpu: that is set again when the daemon starts. `tq config path`\n"
    assert run("resource", "set", "gpu", "2") == (0, "", words)
    assert run("resource", "set", "gpu", "3") == (0, "", "")
    assert run("resource", "remove", "gpu") == (0, "", words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gpu"], "expected a name and an amount"), (["gpu", "2", "3"], "expected a name and an amount"),
        (["gpu", "two"], "AMOUNT: expected a whole number"), (["gpu", "-1"], "No such option"), (["", "1"], "NAME: expected a text"),
    ],
)  # fmt: skip
def test_what_is_no_resource_is_refused_before_it_is_sent(fake: Any, run: Run, words: list[str], says: str) -> None:
    code, out, err = run("resource", "set", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert not fake.asked("set_resource")


def test_resources_are_listed_with_those_who_have_them(fake: Any, run: Run) -> None:
    rows = [resource("gpu", in_use=2, tasks=[7, 9], kept_for=12), resource("evil\x1b[m", amount=0)]
    fake.verbs["resources"] = lambda _: {"resources": rows}
    assert [line.split() for line in run("resource", "list")[1].splitlines()] == [
        ["resource", "there", "is", "in", "use", "by", "tasks"],
        ["gpu", "2", "2", "7,", "9", "kept", "for", "task", "12"],
        ["evil\\x1b[m", "0", "0", "-"],
    ]
    assert [json.loads(line) for line in run("resource", "list", "--json")[1].splitlines()] == rows
    fake.verbs["resources"] = lambda _: {"resources": []}
    assert run("resource", "list") == (0, "", "no resources yet: `tq resource set gpu 2` makes one\n")
    assert run("resource", "list", "--json") == (0, "", "")


@pytest.mark.parametrize("words", [["add", "--"], ["enqueue", "--type", "x"]])
def test_what_a_task_needs_travels_with_it(fake: Any, run: Run, words: list[str]) -> None:
    command = ["true"] if words[0] == "add" else []
    run(words[0], "--slots", "2", "--use", "gpu", "--use", "licence:3", *words[1:], *command)
    options = fake.asked("enqueue")[0]["tasks"][0][2]
    assert (options["slots"], options["uses"]) == (2, {"gpu": 1, "licence": 3})


def test_a_line_of_a_batch_says_it_in_any_of_three_ways(fake: Any, run: Run, tmp_path: Any) -> None:
    batch = tmp_path / "batch"
    lines: list[Any] = ["gpu:2", ["gpu", "licence"], {"gpu": 2}]
    batch.write_text("".join(json.dumps({"type": "x", "slots": 2, "use": use}) + "\n" for use in lines))
    run("enqueue", "--batch", str(batch))
    tasks = [task for one in fake.asked("enqueue") for task in one["tasks"]]
    assert [task[2] for task in tasks] == [
        {"slots": 2, "uses": {"gpu": 2}}, {"slots": 2, "uses": {"gpu": 1, "licence": 1}}, {"slots": 2, "uses": {"gpu": 2}},
    ]  # fmt: skip
    for wrong in (3, [3], {"gpu": "x"}, {"gpu": 0}, {"": 1}, ["gpu", "gpu:2"]):
        batch.write_text(json.dumps({"type": "x", "use": wrong}) + "\n")
        code, _, err = run("enqueue", "--batch", str(batch))
        assert (code, "line 1: --use: expected" in err) == (2, True), err


def test_needs_are_edited_and_taken_away(fake: Any, run: Run) -> None:
    fake.verbs["edit"] = lambda _: {"outcomes": ["edited"]}
    assert run("edit", "5", "--use", "gpu:2", "--slots", "3")[0] == 0
    assert run("edit", "5", "--use", "")[0] == 0
    assert [one["changes"] for one in fake.asked("edit")] == [{"slots": 3, "uses": {"gpu": 2}}, {"uses": {}}]


def test_a_task_shows_what_it_needs(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, slots=2, uses={"gpu": 1, "li\x1b": 2})]}
    words = run("show", "1")[1]
    assert "  slots           2\n" in words
    assert "  uses            gpu:1  li\\x1b:2\n" in words
    told = json.loads(run("show", "1", "--json")[1])
    assert (told["slots"], told["uses"]) == (2, {"gpu": 1, "li\x1b": 2})
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1)]}
    words = run("show", "1")[1]
    assert "slots" not in words
    assert "uses" not in words
