"""Commands that share named resources, and heavy ones, with a real daemon and real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.errors import UsageError

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

Tq = Callable[..., subprocess.CompletedProcess[str]]
Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]


def spans(rows: list[dict[str, Any]]) -> int:
    """The most of these tasks that ran at the same time."""
    begins = [(row["started_at"], 1) for row in rows]
    ends = [(row["finished_at"], -1) for row in rows]
    now = most = 0
    for _, step in sorted(begins + ends):
        now += step
        most = max(most, now)
    return most


def ids(done: subprocess.CompletedProcess[str]) -> list[int]:
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def in_use(client: Client, name: str = "gpu") -> int:
    return next(row["in_use"] for row in client.resources() if row["name"] == name)


def test_six_commands_share_two_of_a_resource_while_others_go_on(
    tq: Tq, daemon: Any, client: Client, rows: Rows, until: Until, gate: Path
) -> None:
    daemon(workers=4)
    assert tq("resource", "set", "gpu", "2").returncode == 0
    wait = f"while ! test -e {gate}; do sleep 0.02; done; sleep 0.1"
    users = [ids(tq("add", "--use", "gpu:1", "--", "sh", "-c", wait))[0] for _ in range(6)]
    until(lambda: in_use(client) == 2, what="two of them run")
    (other,) = ids(tq("add", "--", "true"))
    assert rows([other])[0]["state"] == "succeeded"
    assert f"it waits for 1 of resource gpu: 2 of 2 are in use by tasks {users[0]}, {users[1]}" in tq("why", str(users[2])).stdout
    (row,) = (json.loads(line) for line in tq("resource", "list", "--json").stdout.splitlines())
    assert (row["amount"], row["in_use"], row["tasks"]) == (2, 2, users[:2])
    gate.touch()
    found = rows(users)
    assert [row["state"] for row in found] == ["succeeded"] * 6
    assert spans(found) == 2
    assert in_use(client) == 0


def test_a_heavy_command_has_its_slots_for_itself(tq: Tq, daemon: Any, rows: Rows, gate: Path) -> None:
    daemon(workers=2)
    light = [ids(tq("add", "--", "sleep", "0.2"))[0] for _ in range(3)]
    heavy = [ids(tq("add", "--slots", "2", "--", "sleep", "0.2"))[0] for _ in range(2)]
    light += [ids(tq("add", "--", "sleep", "0.2"))[0] for _ in range(3)]
    found = {row["id"]: row for row in rows(light + heavy)}
    for task_id in heavy:
        assert [spans([found[task_id], found[other]]) for other in found if other != task_id] == [1] * 7
    assert spans([found[task_id] for task_id in light]) == 2
    refused = tq("add", "--slots", "3", "--", "true")
    assert (refused.returncode, "expected at most 2, as many as the workers may have, got 3" in refused.stderr) == (2, True)


def test_amounts_change_while_tasks_run_and_wait(tq: Tq, daemon: Any, client: Client, until: Until, rows: Rows, gate: Path) -> None:
    daemon(workers=4)
    tq("resource", "set", "gpu", "1")
    wait = f"while ! test -e {gate}; do sleep 0.02; done"
    users = [ids(tq("add", "--use", "gpu", "--", "sh", "-c", wait))[0] for _ in range(4)]
    until(lambda: in_use(client) == 1, what="one runs")
    tq("resource", "set", "gpu", "3")
    until(lambda: in_use(client) == 3, what="three run")
    tq("resource", "set", "gpu", "0")
    (waits,) = [task_id for task_id in users if client.get(task_id)["state"] == "pending"]
    words = tq("why", str(waits)).stdout
    assert f"task {waits} (shell, queue default) is pending: it needs 1 of resource gpu, of which there is 0" in words
    assert tq("edit", str(waits), "--use", "").returncode == 0
    until(lambda: client.get(waits)["state"] == "running", what="it runs without")
    gate.touch()
    assert {row["state"] for row in rows(users)} == {"succeeded"}
    assert tq("resource", "remove", "gpu").returncode == 0
    assert "expected a resource that there is (there is none yet), got 'gpu'" in tq("add", "--use", "gpu", "--", "true").stderr


def test_a_killed_worker_and_a_killed_daemon_give_back_what_their_tasks_had(
    daemon: Any, app: str, client: Client, account: Any, gate: Path, rows: Rows, until: Until
) -> None:
    one = daemon(app=app, workers=2)
    client.set_resource("gpu", 2)
    hold = {"path": str(account), "gate": str(gate)}
    first, second, third = (client.enqueue("hold", hold, uses={"gpu": 2}).id for _ in range(3))
    until(lambda: len(account.lines()) == 1, what="the first has begun")
    assert [client.get(task_id)["state"] for task_id in (first, second, third)] == ["running", "pending", "pending"]
    os.kill(int(account.lines()[0][2]), signal.SIGKILL)
    until(lambda: len(account.lines()) == 2, what="it is tried again")
    assert in_use(client) == 2
    one.process.kill()
    one.process.wait()
    one.start()
    until(lambda: len(account.lines()) == 3, what="one runs again")
    assert in_use(client) == 2
    gate.touch()
    found = rows([first, second, third])
    assert {row["state"] for row in found} == {"succeeded"}
    assert spans(found) == 1
    assert (in_use(client), client.stats()["running"]) == (0, 0)


def test_python_says_what_a_task_needs(daemon: Any, app: str, client: Client, rows: Rows) -> None:
    daemon(app=app, workers=2)
    assert (client.set_resource("gpu", 1), client.set_resource("gpu", 2)) == (True, False)
    with pytest.raises(UsageError, match="expected at most 2 of resource 'gpu'"):
        client.enqueue("noop", uses={"gpu": 3})
    done = rows([client.enqueue("noop", slots=2, uses={"gpu": 2}).id])
    assert [(row["state"], row["slots"], row["uses"]) for row in done] == [("succeeded", 2, {"gpu": 2})]
    (later,) = [client.enqueue("noop", delay="1h", uses={"gpu": 1}).id]
    assert list(client.edit(later, slots=2, uses={})) == ["edited"]
    row = client.get(later)
    assert (row["slots"], row["uses"]) == (2, {})
    client.remove_resource("gpu")
    assert list(client.resources()) == []


def test_a_settings_file_says_how_much_there_is(daemon: Any, client: Client, data_dir: Path, until: Until) -> None:
    settings = data_dir / "tq.toml"
    settings.write_text("[resources]\ngpu = 2\nlicence = 1\n")
    settings.chmod(0o600)
    one = daemon(workers=1)

    def there() -> dict[str, int]:
        return {row["name"]: row["amount"] for row in client.resources()}

    assert there() == {"gpu": 2, "licence": 1}
    settings.write_text("[resources]\ngpu = 3\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: there() == {"gpu": 3}, what="the file is read again")
    client.set_resource("own", 1)
    one.end()
    settings.unlink()
    one.start()
    assert there() == {"own": 1}
