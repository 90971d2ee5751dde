"""The first minute with tq: two functions, and a program that sends them work.

tq daemon start --app examples/first_tasks.py
python examples/first_tasks.py
"""

from __future__ import annotations

import tq


@tq.task
def greet(name: str) -> str:
    print(f"greeting {name}")  # kept with the task: `tq log ID`
    return f"Hello, {name}!"


@tq.task("average", queue="sums", timeout="10s")
def average(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


if __name__ == "__main__":
    hello = greet.enqueue("Ada")  # typed like the function; on disk when it returns
    mean = average.options(priority="high").enqueue([1, 2, 6])
    print(hello.result(timeout=30))
    print(mean.result(timeout=30))
