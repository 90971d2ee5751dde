"""Calls that a type checker must refuse: each line ends with the kind of its error. Checked by mypy, never run."""

from __future__ import annotations

import tq


@tq.task
def add(a: int, b: int = 0) -> int:
    return a + b


@tq.task("email", queue="mail")
def send_email(to: str, subject: str = "") -> str:
    return to + subject


add("1")  # wrong: arg-type
add.enqueue("1")  # wrong: arg-type
add.enqueue()  # wrong: call-arg
add.enqueue(1, c=3)  # wrong: call-arg
send_email.enqueue("a@b.c", subject=3)  # wrong: arg-type
send_email.options(prioritty=3)  # wrong: call-arg
tq.task("x", retriez=3)  # wrong: call-overload
text: str = add.enqueue(1).result()  # wrong: assignment


def by_name() -> None:
    with tq.connect() as q:
        q.enqueue(3)  # wrong: arg-type
        q.enqueue("email", {}, delay=[1])  # wrong: arg-type
        q.enqueue("email", {}, colour="red")  # wrong: call-arg
        q.get("42")  # wrong: arg-type


async def awaited() -> None:
    number: str = await (await add.aenqueue(1)).result()  # wrong: assignment
    async with tq.aconnect() as q:
        print(q.enqueue("email", 1).id)  # wrong: attr-defined
    print(number)
