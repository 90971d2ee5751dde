"""The one table of commands and their options, and what the values of options mean.

For: both parsers are built from ``COMMANDS``; both make requests with the functions below.
Not for: parsing (fast, app), doing (hot, tasks, ...), printing (render).
Runs in: the ``tq`` command; imports only what every command needs, since shell loops pay for it.
Promises: a value that cannot be used is a UsageError that names its option; JSON text becomes the bytes that the
Python client would send for the same value.
"""

from __future__ import annotations

from tq.cli.batch_table import BATCHES
from tq.cli.limiting import LIMIT_SET
from tq.cli.table import Command, Option
from tq.cli.tenant_table import TENANTS
from tq.errors import NoSuchTask, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn

    Call = Callable[..., dict[str, Any]]
    """``call(verb, arguments, within_s=None)``: sends a request and gives the body of its answer."""


JSON = Option("--json", "Print JSON: an object, or one a line where there may be many.", "flag")
QUEUE = Option("--queue -q", "Queue.")
TYPE = Option("--type -t", "Type: the name of a handler.")
LABEL = Option("--label -l", "A word of your own to find the task by.")
TENANT = Option("--tenant", "Whose task it is.")
LIMIT = Option("--limit -n", "At most so many.")
RAW = Option("--raw", "Leave control characters as they are, also on a terminal.", "flag")
WAIT = Option("--wait", "Wait until it is over and exit with its code.", "flag")
WITHIN = Option("--timeout", "Give up waiting after this time (exit code 124).")
EACH = (
    Option("--each", "A task for each line of standard input: it takes the place of {} in the command, or stands behind it.", "flag"),
    Option("--null -0", "As --each, but what is read ends in NUL, as that of `find -print0`.", "flag"),
)
TASK = (
    QUEUE,
    Option("--priority -p", "0 to 9 or low, medium, high, critical; higher runs first (default 1)."),
    Option("--in", "Run it after this time: 10s 5m 2h 3d.", key="delay"),
    Option("--at", "Run it at this time: 18:30, 'tomorrow 9am', 'next friday 18:00', 2030-01-31, 2030-01-31T08:00+01:00."),
    Option("--after", "Run it after these tasks, ID or ID,ID, if they succeed (else it is cancelled); may be repeated.", "many"),
    Option("--after-any", "The same, however they end.", "many"),
    Option("--after-failure", "The same, but only if they fail or expire (else it is cancelled).", "many"),
    Option("--on-parent-failure", "If one of --after does not succeed: cancel it (the default), fail it too, or run it."),
    Option("--ttl", "Let it expire if it has not begun within this time."),
    Option("--retries", "Runs after the first one that fails."),
    Option("--backoff", "How the delay before a retry grows: fixed, linear or exponential."),
    Option("--retry-delay", "Delay before the first retry (default 1s)."),
    Option("--max-delay", "Longest delay before a retry (default 5m)."),
    Option("--jitter", "Spread the delays at random (the default).", "switch"),
    Option("--retry-until", "No retry begins after this: a duration such as 2h, or a time as for --at."),
    Option("--deadline", "After this it is over, waiting or running: a duration such as 2h, or a time as for --at."),
    Option("--timeout", "End it if it runs longer than this."),
    Option("--once", "Never run it again if it was cut short.", "flag"),
    Option("--slots", "It counts as so many of the slots of its queue and of the workers (default 1)."),
    Option("--use", "NAME or NAME:N, what it takes of a resource while it runs (`tq resource list`); may be repeated.", "many"),
    Option("--key", "Names this request: sent again with the same key it gives the same id."),
    Option("--unique", "Names what it is about: of its type at most one live task has this name."),
    Option("--on-conflict", "If another has that name: reject (the default), existing (take its id), or replace (if it waits)."),
    Option("--debounce", "With --unique: of what is sent so, run the last, this long after it came; one task waits for it."),
    Option("--debounce-most", "At the latest so long after the first of them came."),
    Option("--throttle", "With --unique: of what is sent so, accept the first, and no other for this long."),
    Option("--wait-for-room", "If its queue is full, try again for so long before giving up (exit code 75)."),
    LABEL,
    Option("--meta", "K=V, a note of your own; may be repeated.", "many"),
    TENANT,
    Option("--in-batch", "The batch that it joins, by its id: see `tq batch create`."),
    Option("--flow", "A key that tasks share which go one after another, or so many at a time: see `tq limit set --each flow`."),
    Option("--order-key", "Those of its queue that share this key run one at a time, in the order in which they were sent."),
    Option("--order-on-failure", "If it fails for good, those behind it in that order wait (block, the default) or go on (continue)."),
    Option("--correlation-id", "The id of what it belongs to in other systems."),
)
HOW = (
    Option("--shell", "The command is one line for /bin/sh, pipes and all: tq add --shell -- 'ls | wc -l'.", "flag"),
    Option("--cwd", "Run it in this directory (default: the current one)."),
    Option("--env", "NAME=VALUE, beside your environment or over it; may be repeated.", "many"),
    Option("--clean-env", "Of your environment only HOME, LANG, LOGNAME, PATH, SHELL, TZ and USER.", "flag"),
    Option("--ok-codes", "Exit codes that are a success beside 0: 0,2."),
    Option("--nice", "Run it so much nicer, as nice(1) does: 10."),
    Option("--ionice", "Its class for the disk: idle, best-effort or best-effort:7, as ionice(1) has them."),
    Option("--max-memory", "Address space that each of its processes may have (RLIMIT_AS): 500M, 2G."),
    Option("--cpu-time", "CPU time that each of its processes may take (RLIMIT_CPU): then it gets XCPU, and 5 s later KILL."),
)
"""How a command is run."""
STDIN = (
    Option("--stdin", "Keep what stands on standard input here, and let it read that, in each attempt from the beginning.", "flag"),
    Option("--max-stdin", "The most that this may be (default 64M)."),
)
OPEN = (
    Option("--interactive -i", "Keep its standard input open for `tq send`, and for that of `tq run`; else it is empty.", "flag"),
    Option("--tty", "Run it on a terminal of its own, interactive; its output is one stream (with `tq run --raw` it may draw).", "flag"),
)
OF_CRON = (
    Option("--cron", "NAME, in a crontab: print nothing unless it fails, never run twice at once; `tq list label:NAME`.", key="cron_name"),
    Option("--verbose", "With --cron: say also that it succeeded, or was left out.", "flag"),
)
PAYLOAD = Option("--payload -P", "JSON text, @FILE, or - for standard input.")
STATE = Option("--state -s", "Only these: scheduled, blocked, pending, running, retrying, succeeded, failed, ...", "many")
WHERE = Option("--where -w", "Instead of ids: all that match, as in 'type:report.* age>1h'; see `tq list --help`.")
DRY_RUN = Option("--dry-run", "Change nothing: print how many it would be, and some of their ids.", "flag")
WAIT_ALL = Option("--wait", "Of many: wait until all of it is done.", "flag")
MANY = (STATE, TYPE, TENANT, DRY_RUN, WAIT_ALL)
_KEYS = {option.key: option for option in TASK}
ALLOW_UNKNOWN = Option("--allow-unknown", "Accept a type that no worker has named yet.", "flag")
SENT = tuple(_KEYS[key] for key in (
    "queue", "priority", "ttl", "retries", "backoff", "retry_delay", "max_delay", "timeout", "once", "slots", "use", "label", "meta",
    "on_parent_failure", "tenant", "flow", "order_key", "order_on_failure", "correlation_id",
))  # fmt: skip
"""Of TASK, what may be said of every run of a schedule."""
WHEN = (
    Option("--cron", "When: minute hour day month weekday, six fields with the seconds first, or @daily, @reboot and their like."),
    Option("--every", "Or: each time so much has passed: 90s 5m 2h."),
    Option("--at", "Or once: 18:30, 'tomorrow 9am', 2030-01-31T08:00+01:00."),
    Option("--tz", "The time zone whose wall clock it follows: Europe/Paris (default UTC)."),
    Option("--jitter", "Begin each run up to so much later, always the same for the same slot.", key="spread"),
    Option("--only", "Only in this part of the day: 22:00-06:00; may be repeated.", "many"),
    Option("--from", "Not before this time.", key="start"),
    Option("--until", "Not after this time."),
    Option("--misfire", "Slots that were missed: coalesce (one run for all, the default), skip, all, or all:N."),
    Option("--overlap", "If the run before goes on: allow (the default), skip, queue_one, or cancel_old."),
    Option("--after-schedule", "Each run begins only when that one's run due before it, or with it, succeeded; may be repeated.", "many"),
    Option("--on-failure", "A line for the shell (or type:NAME, a task) when a run fails; $TQ_ERROR says why. Once until one succeeds."),
    Option("--on-recovery", "The same when a run succeeds again."),
    Option("--on-missed", "The same when a slot was missed or skipped."),
    Option("--missed-after", "... or when no run has succeeded so long after its slot: 30m."),
    Option("--alert-each", "Tell each failure and each missed slot, not only the first.", "switch"),
)
_OF_AN_IMPORT = ("tz", "misfire", "overlap", "on_failure", "on_recovery", "on_missed", "missed_after", "alert_each")
RETRY = (PAYLOAD, _KEYS["priority"], Option("--queue", "Move it to this queue."))
CHANGES = (
    *RETRY,
    *(_KEYS[key] for key in ("delay", "at", "ttl", "retries", "backoff", "retry_delay", "max_delay", "jitter", "timeout", "slots")),
    Option("--use", "What it takes of resources from now on, NAME or NAME:N, '' for nothing; may be repeated.", "many"),
    *(_KEYS[key] for key in ("label", "meta")),
)
DEAD = (
    Option("--where -w", "Those that match: 'error:timeout queue:mail'; see `tq list --help`."),
    Option("--group -g", "Those that failed alike; `tq dead list` names the groups."),
    TYPE,
    TENANT,
    Option("--older-than", "Those that ended longer ago than this: 12h, 3d."),
    Option("--newer-than", "Those that ended within this time."),
)
DEAD_MANY = (*DEAD, Option("--all", "All of them.", "flag"), DRY_RUN, WAIT_ALL)
SERVICE = (
    Option("--user", "A service of your own (the default, but for root).", "flag"),
    Option("--system", "A service of the machine; for root. It runs as the owner of the data directory.", "flag"),
    Option("--name", "What it is called (default tq): one for each data directory."),
)
START = (
    Option("--app", "The module with the handlers: package.module, module:app or path/file.py."),
    Option("--workers", "Worker processes (default: one for each CPU)."), Option("--slots", "Tasks at a time in each worker (default 1)."),
    Option("--min-workers", "The fewest, if their number is to follow the work."), Option("--max-workers", "The most, in that case."),
    Option("--log-level", "debug, info, warning or error."), Option("--grace", "How long tasks may go on when it stops (default 25s)."),
    Option("--foreground", "Stay in the foreground and log to stderr.", "flag"),
    Option("--reload", "For development: replace the workers when the application's files change.", "flag"),
)  # fmt: skip
MONITOR = (
    Option("--read-only", "Change nothing: the daemon refuses what would.", "flag"), Option("--reduce-motion", "Nothing flashes.", "flag"),
    Option("--theme", "tq-dark, tq-light, tq-contrast, tq-mono, tq-ansi, or one of Textual's own."),
    Option("--demo", "A busy instance of its own, gone when you leave; no daemon of yours is looked at.", "flag"),
    Option("--charts", "block, braille or ascii."), Option("--ascii", "Nothing but plain characters.", "flag"),
    Option("--no-color", "No colours, as with NO_COLOR=1.", "flag"), Option("--no-mouse", "Leave the mouse to the terminal.", "flag"),
    Option("--web", "Serve it to browsers on this machine, which change nothing, until ctrl+c; needs the extra tq[web].", "flag"),
    Option("--port", "With --web: the port (default: one that is free)."),
    Option("--allow-writes", "With --web: the pages may change everything.", "flag"),
    Option("--sessions", "With --web: how many pages may be open (default 4)."),
    Option("--idle", "With --web: a page that nobody has used for so long is disconnected (default 30m)."),
)  # fmt: skip

COMMANDS: dict[str, Command] = {
    "enqueue": Command("Store a task, or many, and print its id.", options=(
        TYPE, PAYLOAD,
        Option("--batch", "A file of JSON lines whose keys are these options, or - for standard input."),
        *TASK, WAIT, ALLOW_UNKNOWN,
    )),
    "add": Command("Store a command to be run and print its id: tq add -- make all.", "command", "rest", (
        *TASK, *HOW, *STDIN, *OPEN, WAIT, *EACH,
    )),
    "run": Command(
        "Run a command as a task: show its output, exit with its code. Of more than 1 MiB of output (log_bytes) only the head and "
        "the tail are kept: piped through `tq run` it may lose its middle. Ctrl-C and TERM end the task, too; a hangup or a closed "
        "pipe leaves it to the daemon.",
        "command", "rest", (*TASK, *HOW, *STDIN, *OPEN, RAW, *OF_CRON),
    ),
    "status": Command("Where a task stands, in a line.", "id", "optional", (Option("--task-id", "The task's id."), JSON)),
    "show": Command("Everything about a task.", "id", "one", (JSON,)),
    "list": Command(
        "Tasks, newest first. A filter is words such as state:failed,retrying queue:mail type:report.* priority>=2 age>1h run>30s "
        'error:timeout created>-1d label:"night run" meta.branch:main id:17..42, or a bare word to be found; `NOT` or `-` before one '
        "turns it round, `OR` and brackets join. Quote it: tq list 'state:failed age>1h'. `python -m pydoc tq.query` has all of it.",
        "filter", "any", (
            Option("--where -w", "The filter, as other commands take it."), STATE, QUEUE, TYPE, LABEL, TENANT,
            Option("--sort", "By id, state, type, queue, priority, attempt, created, due, started, finished, run, wait; -run: downwards."),
            LIMIT, JSON,
        ),
    ),
    "peek": Command("The next tasks to run, in order, and why each goes first.", options=(QUEUE, TENANT, LIMIT, JSON)),
    "why": Command("Why a task is where it is, in one sentence, and what would help.", "id", "one", (JSON,)),
    "alerts": Command("The alert rules of the settings file, and which are raised.", options=(JSON,)),
    "plan": Command("What schedules and due tasks will do, in the order of time.", options=(
        Option("--for", "How far ahead: 1h (the default), 7d.", key="span"), LIMIT, JSON,
    )),
    "result": Command("Print what a task returned, as JSON.", "id", "one", (JSON,)),
    "wait": Command("Wait until tasks are over; exit with the first code that is not 0.", "ids", "some", (
        Option("--any", "One of them is enough: print the ids of those that are over, and exit with their code.", "flag"), WITHIN, JSON,
    )),
    "cancel": Command("Cancel tasks that wait; ask those that run to end.", "ids", "any", (WHERE, QUEUE, *MANY)),
    "retry": Command("Run finished tasks again, counting from zero; with another payload if you like.", "ids", "any", (
        *RETRY, WHERE, *MANY,
    )),
    "edit": Command("Change tasks that wait: priority, time, payload, queue, ...", "ids", "any", (*CHANGES, WHERE, *MANY)),
    "remove": Command("Forget tasks that are over, and those that wait (they are cancelled first).", "ids", "any", (WHERE, QUEUE, *MANY)),
    "events": Command("What was done and by whom; with an id, a task's own steps.", "id", "optional", (
        Option("--follow -f", "What happens from now on, live.", "flag"), LIMIT, JSON,
    )),
    "log": Command("What a task has written, in the order and with the times in which tq took it.", "id", "one", (
        Option("--follow -f", "Go on until the task is over, also while the daemon is replaced.", "flag"),
        Option("--tail", "The last so many lines, and with -f those that come."),
        Option("--since", "What was written since then: 10m, 18:30, 'yesterday 9am', 2030-01-31T08:00+01:00."),
        Option("--attempt", "What this attempt wrote: 1 is the first."),
        Option("--stdout", "Only what it wrote to standard output.", "flag"),
        Option("--stderr", "Only what it wrote to standard error; it is printed on standard output.", "flag"),
        Option("--timestamps", "Begin each line with the time at which tq took it, to a millisecond.", "flag"),
        RAW, JSON,
    )),
    "send": Command(
        "Send a line to a running command that was added with --interactive or --tty: tq send 5 yes. - is standard input, as it is.",
        "id_and_text", "some", (
            Option("--exact", "Send the text without a line end behind it.", "flag"),
            Option("--eof", "That was all: its input ends.", "flag"),
        ),
    ),
    "stats": Command("Counts, rates and run times; with --history how they went.", options=(
        Option("--history", "A line for each step of so long a time, up to 30 days: 10m, 2h, 1d. In UTC."),
        Option("--queue -q", "With --history, of this queue alone."), JSON,
    )),
    "monitor": Command("The instance on the whole screen; where standard output is no terminal, what `tq stats` prints.", options=MONITOR),
    "top": Command("The same as `tq monitor`.", options=MONITOR),
    "verify": Command("Check every record of the store; the daemon may run."),
    "backup": Command("Copy the store, also while the daemon runs.", "dest", "one"),
    "restore": Command("Put a backup in the place of the store, which is kept; the daemon must be stopped.", "source", "one"),
    "compact": Command("Give back to the disk what the store no longer needs; while the daemon runs, all others wait a moment.", options=(
        JSON,
    )),
    "doctor": Command("Look at the instance and its surroundings, and say what is wrong and what to do.", options=(JSON,)),
    "config show": Command("The settings as a daemon would have them, and who said so.", options=(JSON,)),
    "config check": Command("Whether the settings can be used."),
    "config set": Command(
        "Change settings in the file, and in a daemon that runs: tq config set workers.count=4 retention.failed=14d; KEY= is the default "
        "again. All else in the file stays.", "changes", "some", (Option("--dry-run", "Only say whether they can be.", "flag"),),
    ),
    "config path": Command("The settings file: the one that is read, or where it would be."),
    "completion": Command("Print the script that completes tq's commands, ids, queues and types: bash, zsh or fish.", "shell", "one"),
    "man": Command("Write the man pages below a directory such as ~/.local/share/man.", "dir", "one"),
    "demo": Command("Real work on this machine, in a directory of its own.", options=(Option("--keep", "Keep that directory.", "flag"),)),
    "bench": Command("Measure this machine.", options=(
        Option("--tasks -n", "Tasks for each measurement."), Option("--workers", "Worker processes (default 2)."), JSON,
    )),
    "daemon start": Command("Start the daemon.", options=START),
    "daemon stop": Command("Let running tasks finish, then end the daemon.", options=(Option("--now", "Do not wait for them.", "flag"),)),
    "daemon restart": Command("Stop it and start it with the same options; a broken application leaves it as it is."),
    "daemon log-level": Command("Change what a running daemon writes to daemon.log: debug, info, warning or error.", "level", "one"),
    "daemon status": Command("Whether it runs, since when, with what.", options=(JSON,)),
    "service install": Command("Let systemd run the daemon, from login or boot on, with its socket.", options=(
        *SERVICE,
        Option("--app", "The module with the handlers, looked for in this directory; tq.toml may say it, too."),
        Option("--dry-run", "Print the units; change nothing.", "flag"),
    )),
    "service uninstall": Command("Stop that, and remove the units; what is stored stays.", options=SERVICE),
    "service status": Command("Whether a service is installed and runs; exits with 69 if not.", options=(*SERVICE, JSON)),
    "dead list": Command("Tasks that failed for good, grouped by what went wrong.", options=(
        *DEAD, QUEUE, Option("--tasks", "The tasks one by one, newest first.", "flag"), LIMIT, JSON,
    )),
    "dead show": Command("One of them whole, or a group and its newest task.", "which", "one", (JSON,)),
    "dead retry": Command("Run them again, with another payload, priority or queue if you like.", "ids", "any", (
        *RETRY, *DEAD_MANY,
    )),
    "dead purge": Command("Forget them.", "ids", "any", (*DEAD_MANY, QUEUE)),
    "queue list": Command("Queues, what stands in them, and their settings.", options=(JSON,)),
    "queue show": Command("A queue's settings, and who said each.", "name", "one", (JSON,)),
    "queue set": Command("Change a queue.", "name", "one", (
        Option("--external", "Leave it to consumers outside the pool.", "switch"),
        Option("--weight", "Its share among the queues, 1 to 100 (default 1)."),
        Option("--slots", "How many of its tasks may run at once; 0 is any number."),
        Option("--aging", "A task that waited longer than this may go before higher priorities (default 60s; 0: never)."),
        Option("--aging-share", "One start in so many goes to such a task (default 10)."),
        Option("--priority -p", "Of its tasks that do not say: 0 to 9 or low, medium, high, critical."),
        Option("--retries", "Of its tasks that do not say."),
        *(_KEYS[key] for key in ("backoff", "retry_delay", "max_delay", "jitter")),
        Option("--timeout", "Time limit of its tasks that do not say; 0 is none."),
        Option("--max-tasks", "Unfinished tasks that it takes before it refuses more."),
        Option("--max-bytes", "Their payloads together: 500M, 1G."),
        Option("--keep", "How long its finished tasks are kept; 0 not at all."),
        Option("--route", "Types that go here if a task names no queue: report.* for example; may be repeated.", "many"),
        Option("--hold-load", "Start nothing of it while the load average of the last minute is this or more: 4."),
        Option("--hold-memory", "Start nothing of it while less memory than this is available: 2GiB."),
        Option("--hold-probe", "A line for /bin/sh: start nothing of it unless this exits with 0 within 10 s; it runs while tasks wait."),
        Option("--hold-every", "How often that is run (default 10s)."),
        Option("--unset", "Back to the default, by the option's name: --unset slots; may be repeated.", "many"),
    )),
    "queue pause": Command("Hand out no more tasks of it.", "name", "one"),
    "queue resume": Command("Hand them out again.", "name", "one"),
    "queue purge": Command("Cancel and forget all tasks that wait in it.", "name", "one", (DRY_RUN, WAIT_ALL)),
    "queue chores": Command("Long work that is under way: what was asked of many tasks at once.", options=(JSON,)),
    "resource list": Command("Named resources: how much there is, how much is in use, and by which tasks.", options=(JSON,)),
    "resource set": Command(
        "How much there is of a resource that running tasks share: tq resource set gpu 2. What runs goes on.", "name_and_amount", "some",
    ),
    "resource remove": Command("Forget a resource; tasks that use it wait until it is set again.", "name", "one"),
    "breaker list": Command("Circuit breakers of services and types: their states, and why.", options=(JSON,)),
    "breaker show": Command("One of them: smtp, or type:email.", "name", "one", (JSON,)),
    "breaker set": Command("When it opens: tq breaker set smtp '5 failures in 1m, cool 30s'.", "name_and_rule", "some"),
    "breaker remove": Command("Forget its rule; what a program declares holds again.", "name", "one"),
    "breaker reset": Command("Close it now.", "name", "one"),
    "breaker trip": Command("Open it now.", "name", "one", (Option("--for", "So long (default: until it is reset).", key="span"),)),
    "limit list": Command("Limits, how far each is used, and whom it holds.", options=(JSON,)),
    "limit set": Command(
        "How many tasks of whom begin in a time and run at a time; what is not named stays as it is.", "name", "one", LIMIT_SET,
    ),
    "limit remove": Command("Forget a limit; those that it held go on.", "name", "one"),
    **TENANTS,
    "suspend": Command("Stop running commands where they stand; their time limits stand still, too.", "ids", "any", (WHERE, QUEUE, *MANY)),
    "resume": Command("Let suspended commands go on.", "ids", "any", (WHERE, QUEUE, *MANY)),
    "schedule add": Command(
        "Send a task again and again: tq schedule add night --cron '0 3 * * *' --tz Europe/Paris -- ./backup.sh, or --type and --payload. "
        "`python -m pydoc tq.schedule` has all of it.",
        "name", "named", (*WHEN, TYPE, PAYLOAD, *SENT, *HOW, ALLOW_UNKNOWN),
    ),
    "schedule edit": Command("Change a schedule; what is not named stays. Another rule counts from now.", "name", "named", (
        *WHEN, Option("--clear", "Back to none: jitter, only, from, until, after-schedule; may be repeated.", "many"),
        TYPE, PAYLOAD, *SENT, *HOW, ALLOW_UNKNOWN,
    )),
    "schedule import": Command(
        "Make schedules of the lines of a crontab (default: what `crontab -l` prints; - is standard input). Each runs its command as cron "
        "does, by the clock of CRON_TZ or else of this machine. The same crontab again changes nothing. See `python -m pydoc tq.crontab`.",
        "file", "optional", (
            Option("--system", "It has a user before each command, as in /etc/cron.d; lines of other users are skipped.", "flag"),
            Option("--dry-run", "Store nothing: show what becomes of each line.", "flag"),
            Option("--skip-bad", "Leave out the lines that cannot be taken over, and store the others.", "flag"),
            Option("--prefix", "How their names begin (default cron): one for each crontab."),
            *(option for option in WHEN if option.key in _OF_AN_IMPORT),
            QUEUE, _KEYS["timeout"], JSON,
        ),
    ),
    "schedule list": Command("Schedules: when they come due, and how they last fared.", options=(JSON,)),
    "schedule show": Command("Everything about a schedule.", "name", "one", (JSON,)),
    "schedule next": Command("When it comes due.", "name", "one", (LIMIT, JSON)),
    "schedule history": Command("Its tasks, newest first: slots, ends, exit codes.", "name", "one", (LIMIT, JSON)),
    "schedule run": Command("Run it now, beside its slots, and print the task's id.", "name", "one", (WAIT,)),
    "schedule pause": Command("Let no more of its slots become tasks.", "name", "one"),
    "schedule resume": Command("Go on from now.", "name", "one"),
    "schedule skip": Command("Leave out its next slot; the one that now comes is printed.", "name", "one"),
    "schedule remove": Command("Forget it; its tasks stay.", "name", "one"),
    **BATCHES,
    "workflow run": Command(
        "Store the workflow that a TOML file describes, whole or not at all, and print its id, that of its first task. "
        "`python -m pydoc tq.cli.workflows` has all of it.", "file", "one", (WAIT,),
    ),
    "workflow list": Command("Workflows, newest first.", options=(Option("--name", "Of this name."), LIMIT, JSON)),
    "workflow show": Command("A workflow by the id of any of its tasks: a tree of its steps.", "id", "one", (JSON,)),
    "workflow cancel": Command("Cancel what waits of a workflow, and ask what runs to end.", "id", "one"),
    "workflow retry": Command("Run a workflow again from the steps on that did not succeed.", "id", "one"),
    "worker list": Command("Worker processes and what they do.", options=(JSON,)),
    "worker scale": Command("Change how many workers there are: `tq worker scale 4`, or --min and --max.", "count", "optional", (
        Option("--min", "The fewest."), Option("--max", "The most; between the two their number follows the work."),
    )),
    "worker drain": Command("Let a worker finish what runs in it and go, without another in its place.", "id", "one"),
    "worker restart": Command("Replace a worker, or all, one after the other, once the application imports.", "id", "optional"),
}  # fmt: skip

_PRIORITIES = {"low": 0, "medium": 1, "normal": 1, "high": 2, "critical": 3}  # tq.model's, whose import costs two interpreters
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def refuse(flag: str, text: str) -> NoReturn:
    """A value of an option cannot be used."""
    raise UsageError(f"{flag}: {text}. See `tq --help`.")


def duration(flag: str, value: object) -> int:
    """Milliseconds from ``10s``, ``1h30m``, a number of seconds."""
    if type(value) is str and value.isascii() and value[:-1].isdigit() and len(value) < 6 and value[-1] in _UNITS:
        return int(value[:-1]) * _UNITS[value[-1]]
    from tq.model import duration_ms

    try:
        return duration_ms(value)
    except ValueError as error:
        refuse(flag, str(error))


def whole(flag: str, value: object) -> int:
    """A whole number, 0 or more."""
    if type(value) is int and value >= 0:
        return value
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    refuse(flag, f"expected a whole number, 0 or more, got {value!r}")


def _priority(flag: str, value: object) -> int:
    known = _PRIORITIES.get(value) if type(value) is str else None
    if known is not None:
        return known
    from_digit = int(value) if type(value) is str and len(value) == 1 and value.isascii() and value.isdigit() else None
    if from_digit is not None:
        return from_digit
    from tq.model import priority_of

    try:
        return priority_of(value)
    except ValueError as error:
        refuse(flag, str(error))


def _now_ms() -> int:
    from time import time

    return int(time() * 1000)


def _instant(flag: str, value: object) -> int:
    """Milliseconds since the epoch from words of time (``tq.instants``); ISO 8601 with a zone, as programs write it, may be over."""
    from tq.cli.moments import instant_of

    return instant_of(flag, value, _now_ms())


def _until(flag: str, value: object) -> int:
    """Milliseconds from now: a duration, or until an instant."""
    if type(value) is not str or value.replace(".", "", 1).isdecimal():
        return duration(flag, value)
    from tq.cli.moments import until_of

    return until_of(flag, value, _now_ms())


def _one_of(*words: str) -> Callable[[str, object], str]:
    def check(flag: str, value: object) -> str:
        if value in words:
            return str(value)
        refuse(flag, f"expected {', '.join(words[:-1])} or {words[-1]}, got {value!r}")

    return check


def a_name(flag: str, value: object) -> str:
    """A text that may name something."""
    if type(value) is str and value:
        return unicode_text(flag, value)
    refuse(flag, f"expected a text, got {value!r}")


def unicode_text(flag: str, value: str) -> str:
    """The text, if it can travel: bytes of a command line that are no UTF-8 are lone surrogates here."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            refuse(flag, f"expected text in UTF-8, got {value!r}")
    return value


def _yes(flag: str, value: object) -> bool:
    if value is True or value is False:
        return value
    refuse(flag, f"expected true or false, got {value!r}")


def _pairs(flag: str, value: object) -> dict[str, str]:
    from tq.cli.several import pairs_of

    return pairs_of(flag, value)


def _ids(flag: str, value: object) -> list[int]:
    from tq.cli.several import ids_of

    return ids_of(flag, value)


def _slots(flag: str, value: object) -> int:
    return whole(flag, value) or refuse(flag, f"expected a whole number, 1 or more, got {value!r}")


def _uses(flag: str, value: object) -> dict[str, int]:
    from tq.cli.needs import uses_of

    return uses_of(flag, value)


def is_id(word: str) -> bool:
    """Whether it may be the id of a task."""
    return word.isascii() and word.isdigit() and len(word) < 19 and int(word) > 0


def after_newest(call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the number of the newest task where ``--after`` says ``@last``."""
    named = {key: values.get(key) for key in ("after", "after_any", "after_failure")}
    if not any("@last" in word for words in named.values() for word in words or ()):
        return values
    (newest,) = task_ids(call, ["@last"])
    return values | {key: words and [word.replace("@last", str(newest)) for word in words] for key, words in named.items()}


_MEANING: dict[str, tuple[str, Callable[[str, object], Any]]] = {
    "queue": ("queue", a_name),
    "priority": ("priority", _priority),
    "delay": ("delay_ms", duration),
    "in": ("delay_ms", duration),
    "at": ("due_at", _instant),
    "ttl": ("ttl_ms", duration),
    "retries": ("retries", whole),
    "timeout": ("timeout_ms", duration),
    "retry_until": ("retry_for_ms", _until),
    "deadline": ("deadline_ms", _until),
    "once": ("once", _yes),
    "key": ("key", a_name),
    "unique": ("unique", a_name),
    "on_conflict": ("unique_policy", _one_of("reject", "existing", "replace")),
    "debounce": ("debounce_ms", duration),
    "debounce_most": ("debounce_most_ms", duration),
    "throttle": ("throttle_ms", duration),
    "label": ("label", a_name),
    "meta": ("meta", _pairs),
    "tenant": ("tenant", a_name),
    "flow": ("flow", a_name),
    "correlation_id": ("correlation_id", a_name),
    "allow_unknown": ("allow_unknown", _yes),
    "after": ("after", _ids),
    "after_any": ("after_any", _ids),
    "after_failure": ("after_failure", _ids),
    "on_parent_failure": ("on_parent_failure", _one_of("cancel", "fail", "run")),
    "in_batch": ("batch", _slots),
    "order_key": ("order", a_name),
    "order_on_failure": ("order_on_failure", _one_of("block", "continue")),
    "slots": ("slots", _slots),
    "use": ("uses", _uses),
}
_BACKOFF = ("backoff", "retry_delay", "max_delay", "jitter")
MOVING = frozenset({"at", "retry_until", "deadline"})
"""Options whose meaning depends on when they are read."""


def task_options(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The wire options that the values of ``TASK`` stand for; None where none was given."""
    found: dict[str, Any] = {}
    for key, (name, meaning) in _MEANING.items():
        value = values.get(key)
        if value is not None and value is not False and value != []:
            found[name] = meaning("--in" if key == "delay" else "--" + key.replace("_", "-"), value)
    if "due_at" in found and "delay_ms" in found:
        raise UsageError("expected either --in or --at, got both. Drop one.")
    if "unique_policy" in found and "unique" not in found:
        raise UsageError("expected --unique NAME with --on-conflict, got none. Add it: it is the name that others may have.")
    if any(values.get(key) is not None for key in _BACKOFF):
        kind = "exponential" if values.get("backoff") is None else values["backoff"]
        if kind not in ("fixed", "linear", "exponential"):
            refuse("--backoff", f"expected fixed, linear or exponential, got {kind!r}")
        base = duration("--retry-delay", "1s" if values.get("retry_delay") is None else values["retry_delay"])
        cap = duration("--max-delay", "5m" if values.get("max_delay") is None else values["max_delay"])
        jitter = values.get("jitter")
        cap = max(cap, base) if values.get("max_delay") is None else cap
        found["backoff"] = [kind, base, 2.0, cap, True if jitter is None else _yes("--jitter", jitter)]
    return found or None


def enqueue_task(values: Mapping[str, Any]) -> list[Any]:
    """[type, payload, options] of ``tq enqueue``."""
    from tq.cli.payloads import json_value, packed, source

    if not values.get("type"):
        raise UsageError("expected --type T (with --payload JSON) or --batch FILE, got neither. For a command: `tq add -- CMD`.")
    text = values.get("payload")
    payload = b"" if text is None else packed(json_value("--payload", source("--payload", text)))
    return [unicode_text("--type", values["type"]), payload, task_options(values)]


def task_ids(call: Call, words: Iterable[str]) -> list[int]:
    """Ids from words; ``@last`` is the newest task's."""
    found = []
    for word in words:
        if word == "@last":
            newest = call("find", {"limit": 1})["tasks"]
            if not newest:
                raise NoSuchTask("@last: expected a task, but there is none. Enqueue one first.")
            found.append(newest[0]["id"])
        elif is_id(word):
            found.append(int(word))
        else:
            raise UsageError(f"expected the id of a task (a number, or @last), got {word!r}. `tq list` shows them.")
    return found
