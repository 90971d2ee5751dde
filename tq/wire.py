"""The wire: what travels over the Unix socket between clients and the daemon, and how it is framed.

For: the protocol's text (below, complete enough to write a client from) and the few functions both ends share.
Not for: sockets, what a verb does (broker), how a client waits for answers (client).
Runs in: every process; imports nothing but msgpack, because every command pays for it.
Promises: a frame that is too large, cut short or not exactly one message is a ProtocolError before any of it is used.

THE PROTOCOL, version 1
=======================

The daemon listens on ``DATA_DIR/tq.sock`` (a stream socket, mode 0600; another user is refused).

Frame      4 bytes, big-endian: the length N of what follows (at most 1 MiB), then N bytes: one msgpack value.
Request    ``[number, verb, arguments]``  number: an integer of the client's, rising; arguments: a map.
Answer     ``[number, 0, body]``          body: a map; the number is the request's.
Error      ``[number, 1, [code, message, details]]``   nothing was changed, unless the details say otherwise.
Event      ``[number, 2, body]``          pushed, for a ``watch``; more may follow until the connection ends.

Requests may be pipelined: answers to the verbs of one connection that change something come in the order of
the requests; ``wait``, ``claim`` with a wait, ``find``, what is asked of views and of filters, and ``watch`` answer when they have
something to say.
An answer to a verb that changes something means that the change is on disk.

Values     Times are integer milliseconds since 1970 UTC (``_at``), durations milliseconds (``_ms``); 0 or nil: none.
           ``payload`` and ``result`` are byte strings (msgpack bin) that hold one packed msgpack value; the daemon
           never opens them.

The first request of a connection is ``hello``; its answer need not be awaited.

hello      {protocol: 1, client: text, nonce: 8 random bytes or nil, read_only: bool, via: a word or nil}
           -> {protocol, version, boot, pid, now, max_frame, role: "read-write" or "read-only"}
           A connection that has said read_only stays so: verbs that may change something (``tq.roles``) are ``not_allowed`` on it,
           their dry runs too.
           via: what stands between a person and this process, such as web; it is told in ``events`` behind the process.
           The nonce names this client's requests: after a lost answer, connect again with the same nonce and send
           the same ``enqueue`` with its old number and ``again: true``: it returns the same ids (for ten minutes).
enqueue    {tasks: [[type, payload, options], ...], options, again: bool}  -> {ids: [...], existing: [places]}   all or nothing
           At most 10,000 tasks. The options beside them, which may hold no key or unique, are those of tasks whose own are nil.
           existing (only where names were given): the places, from 0, of tasks that were there already: their ids, nothing stored
           options (all optional, or nil for none): queue, priority (0..9, higher first), delay_ms or due_at, ttl_ms,
           retries, backoff [kind, base_ms, factor, cap_ms, jitter], timeout_ms, once, label, meta {text: text},
           tenant, flow, correlation_id, allow_unknown, extras (a map for the handler: for ``shell`` see tq.shell),
           retry_for_ms and deadline_ms (from now: no retry begins after the first, after the second it is over, running or not),
           key (names this request: sent again it is the same task, with another content a ``conflict``), unique (names what
           it is about: one live task of its type) with unique_policy "reject" (a ``conflict``), "existing" or "replace",
           debounce_ms or throttle_ms with unique, which then names what is sent again and again and not a live task: of a debounced one
           the task that waits takes the payload of the last and is due debounce_ms after it (debounce_most_ms after the first, at the
           latest); of a throttled one the first is accepted, and none for so long; the others get its id,
           batch (the number of the batch that it joins),
           slots (it counts as so many of those of its queue and of the workers), uses {resource: amount} (held while it runs),
           after, after_any and after_failure (ids, at most 1,000: it is blocked until they are over; one of ``after`` that failed, was
           cancelled or expired cancels it, with the error ``ParentFailed``, and so does one of ``after_failure`` that neither failed
           nor expired, with ``ParentNotFailed``; one that there is none of is ``no_such_task``), on_parent_failure: "cancel" (that),
           "fail" (it fails for good if one of ``after`` did not succeed) or "run" (as if they stood in ``after_any``).
           order (an ordering key: those of one queue that share it run one at a time, in the order in which they were accepted: the
           others are blocked, each with one more in ``waits``), order_on_failure: "block" (behind one that failed or expired they wait
           until it is retried and succeeds, is cancelled or removed, or is forgotten) or "continue".
           Among these ids -n is the n-th task of this very request, counted from 1, before or behind it: so a graph of tasks is stored
           whole or not at all. A circle is refused and named. The tasks of one request wait for at most WAITS_MOST others, counted
           anew for each of them. Their ids follow each other, but for those of tasks that were there already.
get        {ids: [...], how: bool}                -> {tasks: [task or nil, ...]}       a task: see ``tq.model.Task.row``
           A task that runs may also have ``progress`` [fraction, text] and ``suspended: true``. With one id and ``how: true`` that
           of a command has ``how``: its extras (``tq.launch``), its environment in it, with what looks secret masked.
find       {where, states, queue, type, group, tenant, label, limit, before}  -> {tasks: [...], next: cursor or nil}   newest first
           where: a filter as ``tq.query`` describes it, ``error:timeout age>1h``; a task matches all that is given.
dead       {where, states, queue, type, tenant}   -> {groups: [{group, type, error, message, count, first_at, last_at, last_id,
           queues}, ...]}   what failed for good, by what went wrong; group: its name for ``find`` and the verbs below, nil: the rest
peek       {limit, queue, tenant}                 -> {tasks: [...]}                    the next to run, in order; each says ``why``:
           "priority", "aged" (it waited longer than its queue's aging) or "share" (the turn of its queue or its tenant came
           first); of a tenant those among the next 500; types whose breakers are open are left out
why        {id}                                   -> {task, reasons: [[word, details], ...], children: [ids]}
           The most telling reason first; none: it is next. children: of the blocked tasks that wait for it, by id, at most 20
           not_due {due_at}  retry_not_due {due_at, failures, retries, attempt, error}  blocked {parents: [[id, state], ...], waits,
           of}  in_order {order, queue, id, state, ahead: how many stand before it, or_more}
           running {worker, since, attempt, ends_at, progress}  handed_out {worker, since}  suspended {}
           cancel_asked {who}  over {at, why, who, attempts, failures, retries, crashes, interrupts, error, exit_code}
           holds_up {order, queue, waiting: how many stand behind it, or_more}
           why: retries, permanent, no_time, once, poison, interrupts, parent (of a failure), ttl, deadline (it has expired)
           error: {type, message}
           draining {}  queue_paused {queue, who, since}  queue_held {queue, rules, why, age_ms: as in ``queues``; no rules: not known yet}
           queue_external {queue, running}  queue_slots_taken {queue, running, slots, needs}
           breaker {type, state, until, why, probes, rule: as in ``breakers``}  service_down {error}: its last attempt was turned away so
           limit_reached {limit, scope, of, rate, per_ms, most, running, opens_at (ms; 0: when one of those that run ends)}
           quota_reached {tenant, quota, running} (how many may run, and how many do)
           resource_taken {resource, amount, in_use, total, tasks: [ids], of}  resource_short {resource, amount, total}
           kept {resource, queue, id} (for which task; resource "": slots of the workers, nil: of the queue)
           no_worker_knows_type {type}  no_worker_has_type {type, workers}  type_suspected {type, crashes, try_at}  no_workers {}
           gathers {type, waiting, batch, begins_at} (one call takes up to so many of this type, and waits for more until then)
           workers_start {starting}  workers_busy {active, slots, needs}  place {queue, ahead, or_more: bool, estimate_ms}
           expires {expires_at}
wait       {ids: [...], timeout_ms, any: bool}    -> {tasks: [task or nil, ...], done: bool}   when all (any) are over

Views: the tasks that match, in an order that stays as it is however they change, for who scrolls through a million of them. A view lives as
long as its connection and is asked for: it is gone five minutes after the last question, or where a ninth is asked for on one
connection, a sixty-fifth on all, or all together hold 20,000,000 tasks. Who asks for one that is gone is ``refused``, with details.gone.

view       {where, states, queue, type, tenant, label, sort: "-id"} -> {view: number, sort, total, exact: bool}    at once if by id
           sort: id, state, type, queue, priority, attempt, created, due, started, finished, run or wait, - before it: downwards; then by
           id. Any other than id waits until all tasks were looked at, and is ``refused`` with details.too_much for more than 100,000.
           total: how many match, exact false: at least so many, they are still counted, or more than any view holds
page       {view, offset, limit: 1..200}          -> {rows: [row or nil, ...], offset, total, exact, done: bool}
           As soon as these are found; an offset below 0 counts from the end, and waits for it. done: all are found.
           row: [id, state, type, queue, priority, attempt, retries, created_at, due_at, started_at, finished_at, progress (0..1 or nil),
           error (``Type: message``, 120 characters at most, or nil), label or nil, worker or nil, suspended: bool]; nil: the task is gone
place      {view, id}                             -> {offset: number or nil}           where a task stands in the view, from 0
rows       {ids: [...]}                           -> {rows: [row or nil, ...]}         as in ``page``
news       {view}                                 -> {new: number}                     how many that came after the view was made match it

complete   {text, at: column}                     -> {start, end, choices: [[text, note], ...]}    what may stand at that place of a filter
           Columns count from 0, before the first character; a choice takes the place of what stands from start to end. At most 50, of
           values those that most tasks have first, with how many that are (of labels and the like: of the newest 1,000 tasks).
explain    {where}                                -> {terms: [[text, count or nil], ...]}   how many tasks each term alone matches
           nil: after a second not all tasks were looked at

Acting on tasks, each {ids: [...]} -> {outcomes: [word, ...]}, where an id that names no task is "unknown"; or, instead of
ids, what ``find`` takes (where, states, queue, type, tenant, group; at least one) -> {chore: id}: work in slices that outlives the
daemon and touches only what was there when it was asked for; or that with dry_run: true -> {count, some: [ids]}.
cancel, retry, edit and remove take beside a filter ``expected``, what dry_run has counted: ``refused``, with details.count, if by now they
are more or fewer by over a tenth or over 100 (one is always allowed). Counting comes first, so the answer may come behind later ones.

cancel     {...}                                  "cancelled", "asked" (it runs, and was told to end) or "over"
           By its id also one that failed or expired and holds up its ordering key: "cancelled", and the others go on.
retry      {..., changes: {...}}                  "retried", "waiting", "running" or "taken" (another live task has its unique name)
           With ids also in_order: true: each waits again for those of its parents that are not over, which may stand before it among
           the ids; "over": one of them has not ended as it should, so it stays as it is
edit       {..., changes: {...}}                  "edited", "running" or "over"
           ``refused``, and nothing is changed, if a queue has no room for what is retried, moved to it, or grows
           changes: payload, queue, priority, delay_ms or due_at, ttl_ms, retries, backoff, timeout_ms, once, label, meta,
           correlation_id, slots, uses, as for ``enqueue``.
remove     {...}                                  "removed" (what waits ends as cancelled) or "running"
suspend    {...}                                  "suspended", "not_running" (a command that does not run here now), "over" or "function"
resume     {...}                                  "resumed", "not_suspended", "over" or "function"
           running commands alone: their process group gets STOP or CONT, and while it is stopped their timeout stands still
chores     {}                                     -> {chores: [{id, verb, where, seen, changed, left}, ...]}   those under way, which
           take turns; left: {word: count} of those it was about and could not change, "full" for want of room in their queue

Totals, queues and the daemon:

input      {id, data: bytes, end: bool, rows, columns}    -> {outcome}     to the standard input, or the terminal, of a running command
           that has one: at most 32 KiB of bytes; whether that was all; the terminal's new size (0: as it is). "taken", "full" (it
           reads slowly: try again), "closed" (it reads no more), "waiting" (it does not run yet, or again), "over" or "no_input"
log        {id, offset, limit}                    -> {chunks: [[at, stream, bytes], ...], next: offset, end: bool}
           stream 1 is standard output, 2 standard error, 0 a note of tq's own (so many bytes were dropped).
stats      {}                                     -> totals; see ``tq.stats.stats``, and what holds something back: limits: [{name, scope,
           of: [at most 20], opens_at: ms, 0: when one ends}, ...] and breakers: those that are not closed, in the rows of ``breakers``
history    {queue: name or nil, step_s: 1 | 10 | 60 | 600, limit: 720, until: ms or nil}
           -> {step_s, until, series: {name: [value or nil, ...]}}
           How it went, of all or of one queue: at most 720 buckets of step_s seconds that were over by ``until`` (nil: now), oldest
           first; until in the answer is the end of the last (ms). The names: added, succeeded, failed (for good), retried: how many in
           the bucket; pending, running, scheduled, retrying, dead: how many there were at its end; p50, p95, p99: run times in ms of
           what ended in it, nil if nothing did. nil everywhere: no daemon ran, the queue was not yet, or it is not known any more: kept
           are 10 minutes in steps of 1 s, 2 hours of 10 s, a day of 60 s, 30 days of 600 s, and of many busy queues less (``tq.history``).
attention  {}                                     -> {lines: [{key, weight: "bad" | "warn" | "note", about: [kind, name], what, since,
           muted_until: ms or 0}, ...]}   what somebody should look at, the weightiest first, what is muted last, at most 50; since (ms)
           is when it began, or somebody first asked; what: in words; kind: queue, type, schedule, alert, service, workers, tasks,
           store or clock (the name of the last four is empty); see ``tq.broker.attention``
mute       {key, for_ms: 60000..604800000}        -> {}                that line of attention, until then or the daemon's end
queues     {}                                     -> {queues: [{name, ..., states, bytes, limits, breakers}, ...]}   with the settings of
           ``set_queue``; limits: [names] that are reached, and breakers: [types] not closed, of what waits in it
           One that is held also has ``held``: {rules: [load, memory, probe: those that say so], why: in words, age_ms: since when known}.
           If a settings file declares queues also ``file``, its path, and in their rows ``declared``: {setting: value}, set at each start.
types      {}                                     -> {types: [{name, queue, retries, timeout_ms, ...}, ...]}
set_queue  {name, ..., unset: [settings]}         -> {new: bool}       true: there was none; absent settings stay
           Also ``declared``: [settings] of this request that the next start takes from the settings file again, if there are any.
           paused, external: bool; weight: 1..100; slots (0: any number); aging_ms, aging_share (0: never); priority, retries,
           timeout_ms, backoff: of its tasks that do not say; max_tasks, max_bytes; keep_ms; routes: [patterns of types]
           hold_load: a number, hold_memory: bytes, hold_probe: a line for /bin/sh, at most 4,096 bytes, hold_every_ms: while the load
           average is that or more, less memory is available, or the probe, run so often, does not exit with 0, nothing of it starts.
resources  {}                                     -> {resources: [{name, amount, in_use, tasks: [ids], kept_for: id or nil}, ...]}
           If a settings file declares some also ``file``, its path, and in their rows ``declared``: the amount set at each start.
set_resource   {name, amount: 0..1,000,000}       -> {new: bool}       what runs goes on, even if that is more; ``declared`` as above
remove_resource  {name}                           -> {}                tasks that use it wait until it is there again

Circuit breakers (``tq.breakers``), of services that handlers call (``name``) and of types of tasks (``type``):

breakers   {name or type, or nothing: all}        -> {breakers: [{name, type, rule, fixed: bool, declared: rule or nil, state: "closed",
           "open" or "half_open", since, until, level, why, row, calls, failed, probes, won}, ...]}   name "" of a type, type "" of a
           service; fixed: a person has set the rule; until (ms) it is open, 0: until it is reset; level: how often it opened since it
           was closed; row: failures in a row; calls, failed: of those its rule looks at; probes: under way; won: of them, what succeeded
set_breaker      {name or type, rule: text}       -> {new: bool}       whatever a program declares for it later
remove_breaker   {name or type}                   -> {}                that of a type has the rule again that its handler declares, or none
reset_breaker    {name or type}                   -> {}                closed from now on
trip_breaker     {name or type, for_ms: or nil}   -> {}                open for so long, nil: until it is reset
enter_breaker    {name, rule, epoch, good}        -> {go: bool, state, epoch, pass: number, wait_ms, why}   whether a service may be called;
           rule: what the caller declares, it counts if nobody has set another. good: how many calls have succeeded since this caller said
           so last, at ``epoch`` (both 0 at first). go with pass 0: it is closed, and calls that begin in the next quarter of a second
           need not ask. pass above 0: this call is a probe, whose outcome must be told within a minute. Not go: ask again after wait_ms.
           It is refused on a connection that only reads, though nothing is stored
report_breaker   {name, epoch, good, bad, pass, text}    -> {state, epoch}    so many calls that began at this epoch have succeeded, and
           after them so many failed; of a probe: neither, if nobody knows. text: what went wrong, at most 200 characters are kept
limits     {}                                     -> {limits: [{name, scope, of, rate, per_ms, burst, running, window, adaptive, low, high,
           latency_ms, failures, factor, each, used: [{of, running, tokens: number or nil, reached: bool, opens_at}, ...]}, ...]}
           used: by whom, if some run or wait, at most 20; file: the settings file, if it says some
set_limit  {name, scope, of, rate, per_ms, burst, running, window, adaptive, low, high, latency_ms, failures, factor,
           each}  -> {new: bool}
           what is absent stays; what runs goes on, and counts. declared: true if the settings file sets it again at the next start
           scope: queue, type, tenant or flow; of: which one, of the last two nil: each by itself. At most rate: 0..1,000,000 begin in
           each per_ms (1000), beside up to burst at once after a rest (what a second brings, 1 at least); running: at most so many
           run at a time; 0: any number. A hand-out that is given back before it began counts for nothing, a retry counts again.
           window: "none", or "sliding": in any stretch of per_ms, or "fixed": in each from a multiple of it (UTC) on; without burst
           adaptive: "none", or "rate" or "running": that is then low at first, and goes between low and high with the outcomes of its
           tasks: see tq.aimd. It shrinks to factor/100 (90) if over failures % (10) failed or one in ten took over latency_ms (0: any)
           each: "none", or "worker", of a queue or type: so many on each worker, a process of the pool or a consumer's connection
remove_limit  {name}                              -> {}                what it held goes on; declared as above
tenants    {name} or {after, limit}               -> {tenants: [{name, weight, set: bool, quotas: {queued, running, per_day, bytes: number
           or nil}, states: {word: number}, waiting, bytes, today, mean_ms: or nil}, ...], total: the same of all, next: name or nil}
           by name, those behind after, at most 500: whoever has tasks, or had some lately, and for whom something is set (set). states: of
           those that are not over how many stand there, of final ones how many ended so; bytes: of payloads of those that are not over;
           today: how many were accepted since midnight (UTC)
set_tenant {name, weight, queued, running, per_day, bytes}  -> {new: bool}     what is absent stays. weight: 1..1,000,000; the quotas, 0 is
           none: queued bounds those that wait, per_day those accepted in a day (UTC), bytes their payloads until they are over. An
           enqueue that would pass one is ``refused`` whole, with details.tenant, quota, most and have; what was accepted is never
           refused again. Of running no more are handed out
remove_tenant  {name}                             -> {}                what was set for it; its tasks stay
create_batch  {name, on_failure, on_complete, on_success: [type, payload, options], meta, auto: bool, again}  -> {id}
           Tasks join it by their option ``batch``, as long as it is open or one of its members is not over, then it is ``batch_over``.
           The callbacks are tasks, each stored once at most in the transaction of the end that it is for: on_failure when the first
           member has failed for good, on_complete when it is closed and all are over, on_success when they have succeeded, too. They
           have no key, unique, batch, and wait for nothing. auto: it closes itself when it has members and they are over.
close_batch   {id}                                -> {batch}           no more than its members will add comes: now it can be over
cancel_batch  {id}                                -> {chore: id or nil}    what is not over is cancelled, by a chore; nobody adds to it now
retry_batch   {id}                                -> {chore: id or nil}    what did not succeed runs again, behind its parents
remove_batch  {id}                                -> {}                a batch without members that are not over; its tasks stay
batch      {id}                                   -> {batch: {id, name, state: "open", "running" or "complete", auto, meta, created_at,
           closed_at, cancelled_at, finished_at, total, waiting, running, succeeded, failed, cancelled, expired,
           callbacks: {on_...: [type, id of its task or nil]}, owed: [on_..., ...] that were refused for now and are sent later}}
           members that are forgotten stay counted
batches    {before: id, limit: 50}                -> {batches: [...]}  newest first
wait_batch {id, timeout_ms}                       -> {batch, done: bool}    when it is complete
events     {limit, before: number}                -> {events: [{number, at, who, what, target, before, after}, ...]}   newest first
           or {limit, after: number}, those above it: oldest first.
           what people and the daemon did; before and after hold what changed. The end of a chore is one: what "chore_done",
           target its id, after {verb, seen, changed, left}.
set_schedule   {name, new: bool, ...}             -> {}                new: none has that name yet; else what is absent stays
           One of cron (an expression or @reboot), every_ms and at (an instant); tz: the name of a zone; jitter_ms; only: [windows such as
           22:00-06:00]; from_at, until_at; misfire: coalesce, skip, all, all:N; overlap: allow, skip, queue_one, cancel_old;
           after: [names of schedules]: the task of a slot comes after, as with ``after``, those of their newest slots up to that one;
           paused: bool; task: [type, payload, options] as for ``enqueue``, but for delay_ms, due_at, key, unique, after and after_any;
           of one that is there, what is nil stays, and so do options that are not named (nil ends one). See ``tq.schedule``.
           on_failure, on_recovery, on_missed: a task as above that tells of it ([] for none), missed_after_ms: when no run has succeeded so
           long after its slot, alert_each: also what was told since the last success. ``tq.broker.alerts`` has what they are told.
           next_at: the slot that is to come next, those before it are skipped, one that was skipped comes again; 0: none does. It holds
           until the rule is changed, or a pause ends.
           Each task has in its meta ``schedule``, ``slot`` (RFC 3339, or "by hand"), and ``missed`` if it stands for other slots too.
remove_schedule  {name}                           -> {}                its tasks stay
run_schedule   {name}                             -> {id}              now, and whatever goes on
schedules  {name} or {after: name, limit}         -> {schedules: [...], next: name or nil}    each has what ``set_schedule`` says, and
           type, declared: bool, next_at, held_at (a slot that waits for the end of a run), failing (the task whose failure was told),
           overdue_at (the slot that was told as missed; both until a run succeeds; alerts here as "type, so many bytes"),
           last {id, slot_at, state, started_at,
           finished_at, exit_code}; the one that is named also payload, options, alerts, runs [[slot or 0, id], ...], newest last
alerts     {}                                     -> {alerts: [{name, watch, above, queue, type, for_ms, window_ms, value, raised_at,
           changes_at}, ...]}   the rules of the settings file (``tq.broker.rules``), value as last looked at; raised_at 0: it is not;
           changes_at: when it will be raised or cleared, if nothing changes
plan       {for_ms: 3600000, limit: 100}          -> {rows: [...], from, until, more: bool, paused: [names of schedules]}    in time order
           a slot: {at, schedule, slot_at, type, queue, overlap}, if a run must end first also waits: [ids]; if it cannot be sent problem
           a task that waits for its time: {at, id, type, queue, state, attempt, label}; in both queue_paused: true if so
next_slots {name, count}                          -> {slots: [[slot, when it begins], ...], paused, tz}
workers    {}                                     -> {workers: [...]}    within 0.1 s, in which they are asked for a sign of life
           each: {id, hostname, pid, state, started_at, last_heartbeat, tasks: [ids that run], ahead (handed out behind them),
           done, cpu (per cent since somebody last looked), cpu_s (in all), rss (bytes)}; state: starting, idle, busy, draining, ending
scale_workers  {min, max}                         -> {min, max}          at least one; it is as many workers as the work needs
drain_worker   {id}                               -> {min, max}          it finishes what runs in it and goes; none takes its place
restart_workers  {id or nil for all}              -> {workers: [id, ...]}    if the application imports; one after the other
status     {}                                     -> {pid, boot, version, started_at, data_dir, options, held: {queue: as in queues}, ...}
set_log    {level: "debug" | "info" | "warning" | "error"}         -> {}
config     {ask: "get"}                           -> {revision, file, exists: bool, problem, options: [{key, value, source, from, file,
           next}, ...], named: [{key, value}, ...]}   the settings in force, by their keys in tq.toml such as ``workers.count``, and their
           values as they are written there. revision: another one whenever the file or a value is; file: its path, or where it would be;
           problem: why the file could not be used now, or ""; source: default, file, environment, command line, or runtime (a verb such
           as ``scale_workers`` has changed it); from: that file or variable; in a row file: what the file says, or nil; next: what
           the next start makes of it, nil if the same; named: the file's tables of queues, alerts, resources and the monitor, at most 500
           {ask: "schema"}                        -> {options: [{key, name, kind, unit, least, most, choices, default, live, expects,
           says}, ...]}   kind: text, whole or number; least and most in the unit, nil: any; live: a running daemon takes it over
           {ask: "validate", changes: {key: value or nil}}    -> {errors: [{key, reason}, ...]}    none: they can be made; key "": the whole
configure  {changes: {key: value or nil}, revision}   -> {revision, applied: [keys], waits: [keys], wins: {key: by whom}}
           Writes the settings file, and takes over what a running daemon can; nil, and "", takes a key out of the file. ``refused``, with
           details.revision and now {key: what the file says, or nil}, if the revision is another; ``config``, with details.errors, if
           they cannot be made; nothing is written then. applied: what has another value now; waits: for the next start; wins: the
           variable or the command line that says otherwise.
check_app  {}                                     -> {types: [...]}    a fresh worker imports the application again
compact    {}                                     -> {before, after, paused_ms}    bytes of the store's file; all others wait so long
stop       {now: bool}                            -> {}                drains (or not) and ends the daemon

Consumers outside the pool, in any language, take tasks under a lease:

claim      {queues: [...], types: [...] or nil, limit, wait_ms, lease_ms: 30000}
           -> {tasks: [{id, claim, type, queue, payload, attempt, priority, timeout_ms, lease_ms, extras, ...}, ...]}
           Waits up to wait_ms for one to come. (id, claim) is the fencing token of all that follows.
extend     {id, claim, lease_ms}                  -> {ok: bool}        false: the claim is over, stop working
settle     {results: [[id, claim, kind, details], ...]}            -> {settled: [bool, ...]}
           kind: "succeeded" (details: {result}) or "failed" (details: {error: {type, message}, delay_ms, permanent,
           exit_code}). false: somebody else holds the task now, or it is over; nothing changed.
release    {claims: [[id, claim], ...]}           -> {released: [bool, ...]}    given back unstarted, uncharged

Watching (each event is a map with ``topic``):

watch      {topics: [...], ids: [...] or nil, hz: 4, offset: 0}    -> {} and then events
           "ends": {id, state, exit_code} as tasks end; "output": {id, chunks, next, end} for the one id named, from
           ``offset`` on, until the task is over (the last with state and exit_code, if it ended meanwhile);
           "totals": the body of ``stats`` at most hz times a second, when changed;
           "steps": {number, at, event, id, type, queue, ...} for all that happens: added, started, succeeded, failed, came_due,
           retried, ..., chore_done (id: the chore's); the number rises by one; "left_out" {number_of} stands for steps that were
           too many at once. With ids, of these tasks alone.

Errors     code: one of the words in ``tq.errors``; ``refused`` may be tried again after details.retry_after seconds,
           or, with details.too_much, only in smaller parts.
           A frame that is not a request closes the connection after one ``protocol`` error with number 0.
           A connection that stops reading while answers pile up (8 MiB) is closed; and where all together leave more
           than 32 MiB unread or half sent, those that got on least.
           A client may shut down its sending side after its last request: it still gets its answers, then the end.
           Names (queue, type, label, ...) are texts of 1 to 200 bytes, lists hold at most 500 unless said otherwise.
           No request: what has a key twice in a map, an extension type, more than 16,384 items in a list or map, or
           more than 524,288 values, each list or map counted as four more than it holds.
           An answer with tasks that would not fit a frame marks some with ``cut: true``: they miss what may be large
           (payload, result, error, meta, attempts); ask for those alone.

BETWEEN POOL AND WORKER
=======================

Two SOCK_SEQPACKET pairs; each record is one msgpack value; no framing. Never part of the public protocol.

tasks      pool -> worker   [quick, [[id, claim, runs before, specification, failures], ...]]   ``quick``: gather results
           (a specification over 64 KiB is nil and travels as a memfd beside the record, alone in it; behind the list of a
           command alone its packed environment, if the store keeps that apart; "call" in place of quick: one call of their handler
           takes them all, and together they may travel as one memfd, a list of them)
           worker -> pool   [row, ...]   [id, claim, 0, started_at, finished_at, output, result]          a success
                                         [id, claim, kind, started_at, finished_at, output, outcome map]  any other end
                            ["progress", id, claim, fraction from 0 to 1, text]                     it goes on
                            ["leaves", id, claim, 0, ""]    the worker begins nothing more: its end took helpers along
control    worker -> pool   ["hello", {pid, types: [[name, queue, retries, ...], ...], files}] or ["refused", traceback text]
                            ["pong"]
           pool -> worker   ["flush"]  ["cancel", id, ...]  ["suspend", id]  ["resume", id]  ["ping"]  ["drain"]
"""

from __future__ import annotations

import msgpack

PROTOCOL = 1
MAX_FRAME = 1 << 20
WAITS_MOST = 100_000
"""Tasks that those of one ``enqueue`` may wait for, counted for each: the store has an entry for every pair."""
ANSWER, ERROR, EVENT = 0, 1, 2
SOCKET = "tq.sock"
MAX_SOCKET_PATH = 107
"""Linux takes 108 bytes with the final NUL (unix(7))."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def frame(message: object) -> bytes:
    """One message, ready to be sent."""
    body: bytes = pack(message)
    return len(body).to_bytes(4, "big") + body


ITEMS_MOST = 1 << 14
"""What one list or map of a request may hold."""
VALUES_MOST = 1 << 19
"""The values of a request, where a list or a map counts as LIST more than it holds: an empty one is a byte on the wire, and 64 here."""
LIST = 4


def request(body: bytes) -> Any:
    """``message`` for what clients send: ValueError also for a key that comes twice, for extensions, and for more than
    ITEMS_MOST and VALUES_MOST, so that no frame costs much more memory than its bytes. MemoryError: there is not even that."""
    left = VALUES_MOST

    def lists(items: list[Any]) -> list[Any]:
        nonlocal left
        left -= len(items) + LIST
        if left < 0:
            raise ValueError(f"expected at most {VALUES_MOST} values")
        return items

    def maps(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        lists(pairs)
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("expected each key once")
        return found

    return msgpack.unpackb(
        body, raw=False, use_list=True, strict_map_key=True, list_hook=lists, object_pairs_hook=maps, ext_hook=_no_extension,
        max_ext_len=0, max_array_len=ITEMS_MOST, max_map_len=ITEMS_MOST,
    )  # fmt: skip


def _no_extension(_code: int, _data: bytes) -> Any:
    raise ValueError("expected no extension types")


def message(body: bytes | bytearray | memoryview) -> Any:
    """The one value in ``body``; ValueError if there is none, more than one, or it is not sound."""
    return msgpack.unpackb(body, raw=False, use_list=True, strict_map_key=True)


class FrameTooLarge(ValueError):
    """A frame announces more bytes than the limit."""


class Frames:
    """Takes bytes as they come and gives whole frames' bodies."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def waiting(self) -> int:
        """Bytes that are not given out yet."""
        return len(self._buffer)

    def take(self, most: int = 1 << 30) -> list[bytes]:
        """The bodies of at most ``most`` whole frames; FrameTooLarge where one announces more than the limit."""
        buffer, at = self._buffer, 0
        bodies: list[bytes] = []
        have = len(buffer)
        while have - at >= 4 and len(bodies) < most:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > self._limit:
                raise FrameTooLarge(f"expected a frame of at most {self._limit} bytes, got one of {size}")
            if have - at - 4 < size:
                break
            bodies.append(bytes(buffer[at + 4 : at + 4 + size]))
            at += 4 + size
        if at:
            del buffer[:at]
        return bodies


def error(number: int, code: str, text: str, details: dict[str, Any] | None = None) -> bytes:
    """An error answer, ready to be sent."""
    return frame([number, ERROR, [code, text, details or {}]])
