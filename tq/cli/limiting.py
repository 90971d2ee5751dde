"""The options of ``tq limit set``.

For: the table of commands (options), which has them from here.
Not for: what their values mean (limits).
Runs in: the ``tq`` command; imports only what every command needs.
Promises: each is named as the rule of a limit is on the wire, where it stands for one word of it.
"""

from __future__ import annotations

from tq.cli.table import Option

LIMIT_SET = (
    Option("--queue -q", "Of this queue."),
    Option("--type -t", "Of this type."),
    Option("--tenant", "Of this tenant."),
    Option(
        "--each",
        "tenant or flow: of each tenant, or each flow key (`tq add --flow K`), by itself; worker: on each, of --type or --queue.",
        key="each_of",
    ),
    Option("--rate", "At most so many begin: 500/s, 100/m, 1000/h, 5/10s; 0: any number."),
    Option("--burst", "So many at once after a rest (default: what --rate brings in a second, 1 at least)."),
    Option("--window", "sliding: no more than --rate in any such time; fixed: in each minute, hour, ... of UTC; none: a token bucket."),
    Option("--running", "At most so many run at a time; 0: any number."),
    Option(
        "--adaptive", "Follow how the work goes, within --running 1..50 or --rate 10/s..500/s: more while it goes well, else less.", "flag"
    ),
    Option("--latency", "Of one that is adaptive: what nine runs in ten may take; 0: any time."),
    Option("--failures", "Of one that is adaptive: so many runs may fail (default 10%)."),
    Option("--factor", "Of one that is adaptive: what it is multiplied by when too many fail or are slow (default 0.9)."),
)
