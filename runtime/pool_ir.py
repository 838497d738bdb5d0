"""The LLVM IR of the thread pool: worker threads, and `parallel`, which hands them the chunks of a job.

A job is a function (context, begin, end) over units 0 .. units - 1, cut into chunks of units that lie next to
each other. Each party (the caller and the workers) has a range of chunks of its own, so that the same memory
meets the same core from one job to the next, and takes from the others' ranges when it is done. A *ticket*
is generation << 32 | next chunk and is drawn by compare-and-exchange, so a thread that comes late can never
touch a newer job; the join waits for chunks, not for workers, so one that sleeps delays nobody.

Workers spin for a moment after a job, then sleep until the generation changes. They are bare threads
(pthreads, all signals blocked) that know nothing of Python. A pool that is busy, be it with a job around
this one or with another thread's, leaves the caller to do the job alone.
"""

from __future__ import annotations

from ..codegen.threads import CHUNK, WORTH, WORTH_WAKING

#: More threads than this are never used.
MOST_THREADS = 256
#: Cycles of waiting, after which the caller lets other threads run between two looks.
_PATIENCE = 20_000
_STACK_BYTES = 8 << 20

#: Where the words of the pool lie, in bytes. What different threads write lies in different cache lines.
GENERATION, SLEEPERS, DONE, OWNER = 0, 64, 128, 192
JOB, CONTEXT, UNITS, SIZE, PARTIES, FAILURE = range(256, 304, 8)
THREADS, STARTED, STOP, SPIN = 320, 328, 336, 344
WAITED, WAITING = 384, 392  # work of the jobs in a row that woke nobody, and when the last one was
_POOL_WORDS = 64

_HEAD = f"""
@pool = internal global [{_POOL_WORDS} x i64] zeroinitializer, align 64
@tickets = internal global [{MOST_THREADS} x [8 x i64]] zeroinitializer, align 64 ; next chunk, last
@handles = internal global [{MOST_THREADS} x i64] zeroinitializer
@mxcsr = internal constant i32 8064                        ; IEEE 754 as it stands: no exceptions, no flushing
declare i64 @llvm.readcyclecounter()
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare i32 @sched_yield()
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
"""


def _at(offset: int) -> str:
    """The address of a word of the pool, as a constant."""
    return f"getelementptr (i8, ptr @pool, i64 {offset})"


def _load(name: str, offset: int, kind: str = "i64", order: str = "monotonic") -> str:
    return f"  %{name} = load atomic {kind}, ptr {_at(offset)} {order}, align 8\n"


def _store(value: str, offset: int, kind: str = "i64", order: str = "monotonic") -> str:
    return f"  store atomic {kind} {value}, ptr {_at(offset)} {order}, align 8\n"


#: wait(seen): sleep while the generation is `seen`; wake(count): wake about so many. By futex: its number is
#: that of the system call.
def _futex(number: int) -> str:
    call = f"call i64 (i64, ...) @syscall(i64 {number}, ptr {_at(GENERATION)}"
    return f"""
declare i64 @syscall(i64, ...)
define internal void @wait(i32 %seen) {{
  %r = {call}, i64 128, i32 %seen, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @wake(i64 %count) {{
  %r = {call}, i64 129, i64 %count, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @renew() {{
  ret void
}}
"""


#: The same by a condition variable, where there is no futex. Blocks are larger than any system's.
_CONDITION = f"""
@mutex = internal global [32 x i64] zeroinitializer, align 64
@condition = internal global [32 x i64] zeroinitializer, align 64
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
define internal void @wait(i32 %seen) {{
entry:
  %r0 = call i32 @pthread_mutex_lock(ptr @mutex)
  br label %look
look:
{_load("now", GENERATION, "i32", "seq_cst")}  %same = icmp eq i32 %now, %seen
  br i1 %same, label %sleep, label %done
sleep:
  %r1 = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %look
done:
  %r2 = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}}
define internal void @wake(i64 %count) {{
  %r0 = call i32 @pthread_mutex_lock(ptr @mutex)
  %r1 = call i32 @pthread_cond_broadcast(ptr @condition)
  %r2 = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}}
define internal void @renew() {{
  %r0 = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %r1 = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}}
"""

_CHUNKS = f"""
define internal void @draw(i64 %me) {{                     ; do chunks of the current job while there are any
entry:
{_load("parties", PARTIES)}  %some = icmp ne i64 %parties, 0
  br i1 %some, label %party, label %out
party:
  %v = phi i64 [0, %entry], [%v.next, %next]
  %before = phi i64 [0, %entry], [%done, %next]
  %sum = add i64 %me, %v
  %p = urem i64 %sum, %parties
  %ticket = getelementptr [8 x i64], ptr @tickets, i64 %p
  %range = getelementptr i64, ptr %ticket, i64 1
  br label %look
look:
  %done = phi i64 [%before, %party], [%done, %claim], [%done.now, %count]
  %t = load atomic i64, ptr %ticket acquire, align 8
  %stop = load atomic i64, ptr %range monotonic, align 8
{_load("fn", JOB, "ptr")}{_load("context", CONTEXT, "ptr")}{_load("units", UNITS)}{_load("size", SIZE)}\
  %i = and i64 %t, 4294967295
  %left = icmp ult i64 %i, %stop
  br i1 %left, label %claim, label %next
claim:
  %t1 = add i64 %t, 1
  %pair = cmpxchg ptr %ticket, i64 %t, i64 %t1 acq_rel monotonic
  %ok = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %ok, label %go, label %look
go:
  %begin = mul i64 %i, %size
  %after = add i64 %begin, %size
  %end = call i64 @llvm.umin.i64(i64 %after, i64 %units)
  %status = call i64 %fn(ptr %context, i64 %begin, i64 %end)
  %fine = icmp eq i64 %status, 0
  br i1 %fine, label %count, label %fault
fault:
  %place = shl i64 %i, 32
  %fault.at = or i64 %place, %status
  %o1 = atomicrmw umin ptr {_at(FAILURE)}, i64 %fault.at monotonic
  br label %count
count:
  %done.now = add i64 %done, 1
  br label %look
next:
  %v.next = add i64 %v, 1
  %more = icmp ult i64 %v.next, %parties
  br i1 %more, label %party, label %tell
tell:                                                      ; once: the word is everybody's
  %o2 = atomicrmw add ptr {_at(DONE)}, i64 %done release
  br label %out
out:
  ret void
}}
"""

_WORKER = f"""
define internal ptr @worker(ptr %argument) {{              ; number << 32 | generation seen so far
entry:
  call void @llvm.x86.sse.ldmxcsr(ptr @mxcsr)
  %word = ptrtoint ptr %argument to i64
  %me = lshr i64 %word, 32
  %first = trunc i64 %word to i32
  br label %idle
idle:
  %seen = phi i32 [%first, %entry], [%seen, %slept], [%now, %worked]
  %start = call i64 @llvm.readcyclecounter()
{_load("spin", SPIN)}  br label %look
look:
{_load("now", GENERATION, "i32", "acquire")}  %same = icmp eq i32 %now, %seen
  br i1 %same, label %pause, label %work
pause:
  call void @llvm.x86.sse2.pause()
  %clock = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %clock, %start
  %patient = icmp ult i64 %spent, %spin
  br i1 %patient, label %look, label %sleep
sleep:
  %o1 = atomicrmw add ptr {_at(SLEEPERS)}, i64 1 seq_cst
  call void @wait(i32 %seen)
  %o2 = atomicrmw sub ptr {_at(SLEEPERS)}, i64 1 seq_cst
  br label %slept
slept:
  br label %idle
work:
{_load("stop", STOP, order="acquire")}  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %do
do:
  call void @draw(i64 %me)
  br label %worked
worked:
  br label %idle
leave:
  ret ptr null
}}

define internal void @start(i64 %threads) {{               ; have threads - 1 workers, if the system allows
entry:
  %attributes = alloca [16 x i64], align 16
  %all = alloca [16 x i64], align 16
  %before = alloca [16 x i64], align 16
  %r0 = call i32 @pthread_attr_init(ptr %attributes)
  %r1 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 {_STACK_BYTES})
  %r2 = call i32 @sigfillset(ptr %all)
  %r3 = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %before)
{_load("generation", GENERATION, "i32")}  %seen = zext i32 %generation to i64
  br label %look
look:
{_load("started", STARTED)}  %number = add i64 %started, 1
  %missing = icmp ult i64 %number, %threads
  br i1 %missing, label %make, label %done
make:
  %shifted = shl i64 %number, 32
  %word = or i64 %shifted, %seen
  %argument = inttoptr i64 %word to ptr
  %handle = getelementptr i64, ptr @handles, i64 %started
  %refused = call i32 @pthread_create(ptr %handle, ptr %attributes, ptr @worker, ptr %argument)
  %made = icmp eq i32 %refused, 0
  br i1 %made, label %made.one, label %done
made.one:
{_store("%number", STARTED)}  br label %look
done:
  %r4 = call i32 @pthread_sigmask(i32 2, ptr %before, ptr null)
  %r5 = call i32 @pthread_attr_destroy(ptr %attributes)
  ret void
}}

define internal void @kick(i64 %parties) {{                ; a new generation begins
entry:
  %o = atomicrmw add ptr {_at(GENERATION)}, i32 1 seq_cst
{_load("sleepers", SLEEPERS, order="seq_cst")}  %any = icmp ne i64 %sleepers, 0
  br i1 %any, label %call, label %out
call:
  call void @wake(i64 %parties)
  br label %out
out:
  ret void
}}
"""

_PARALLEL = f"""
define i64 @parallel(ptr %fn, ptr %context, i64 %units, i64 %work, i64 %pieces) {{
; status of fn(context, 0, units), each unit being so much work, in so many pieces per thread
entry:
{_load("threads", THREADS)}  %several = icmp ugt i64 %threads, 1
  %divisible = icmp ugt i64 %units, 1
  %total = mul i64 %units, %work
  %large = icmp uge i64 %total, {WORTH}
  %possible = and i1 %several, %divisible
  %worth = and i1 %possible, %large
  br i1 %worth, label %awake, label %alone
awake:
{_load("sleepers", SLEEPERS)}{_load("present", STARTED)}  %others = sub i64 %threads, 1
  %here = icmp uge i64 %present, %others
  %none.asleep = icmp eq i64 %sleepers, 0
  %all.awake = and i1 %here, %none.asleep
  br i1 %all.awake, label %own, label %asleep
asleep:                                                    ; are this job and those before it worth waking?
{_load("waited", WAITED)}{_load("waiting", WAITING)}{_load("spin", SPIN)}\
  %now = call i64 @llvm.readcyclecounter()
  %gap = sub i64 %now, %waiting
  %in.a.row = icmp ult i64 %gap, %spin
  %before = select i1 %in.a.row, i64 %waited, i64 0
  %together = add i64 %before, %total
  %waking = icmp uge i64 %together, {WORTH_WAKING}
  %waited.now = select i1 %waking, i64 0, i64 %together
{_store("%waited.now", WAITED)}{_store("%now", WAITING)}  br i1 %waking, label %own, label %alone
own:
  %pair = cmpxchg ptr {_at(OWNER)}, i64 0, i64 1 acquire monotonic
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %owner, label %alone
alone:
  %only = call i64 %fn(ptr %context, i64 0, i64 %units)
  ret i64 %only
owner:
  br i1 %here, label %cut, label %hire
hire:
  call void @start(i64 %threads)
  br label %cut
cut:
  %some.work = call i64 @llvm.umax.i64(i64 %work, i64 1)
  %grain.down = udiv i64 {CHUNK}, %some.work
  %grain = call i64 @llvm.umax.i64(i64 %grain.down, i64 1)
  %fitting = udiv i64 %units, %grain
  %wanted = mul i64 %threads, %pieces
  %about = call i64 @llvm.umin.i64(i64 %fitting, i64 %wanted)
  %units.up = add i64 %units, %about
  %units.up1 = sub i64 %units.up, 1
  %size = udiv i64 %units.up1, %about
  %size.up = add i64 %units, %size
  %size.up1 = sub i64 %size.up, 1
  %chunks = udiv i64 %size.up1, %size
  %parties = call i64 @llvm.umin.i64(i64 %threads, i64 %chunks)
  br label %close
close:
  %c = phi i64 [0, %cut], [%c.next, %close]
  %c.ticket = getelementptr [8 x i64], ptr @tickets, i64 %c
  store atomic i64 2147483647, ptr %c.ticket seq_cst, align 8
  %c.next = add i64 %c, 1
  %c.more = icmp ult i64 %c.next, %threads
  br i1 %c.more, label %close, label %describe
describe:
{_store("%fn", JOB, "ptr")}{_store("%context", CONTEXT, "ptr")}{_store("%units", UNITS)}\
{_store("%size", SIZE)}{_store("%parties", PARTIES)}{_store("-1", FAILURE)}{_store("0", DONE)}\
{_load("generation", GENERATION, "i32")}  %wide = zext i32 %generation to i64
  %stamp.wide = add i64 %wide, 1
  %stamp = shl i64 %stamp.wide, 32
  br label %open
open:
  %o = phi i64 [0, %describe], [%o.next, %open]
  %o.next = add i64 %o, 1
  %o.start.times = mul i64 %o, %chunks
  %o.start = udiv i64 %o.start.times, %parties
  %o.stop.times = mul i64 %o.next, %chunks
  %o.stop = udiv i64 %o.stop.times, %parties
  %o.ticket = getelementptr [8 x i64], ptr @tickets, i64 %o
  %o.range = getelementptr i64, ptr %o.ticket, i64 1
  store atomic i64 %o.stop, ptr %o.range monotonic, align 8
  %o.word = or i64 %stamp, %o.start
  store atomic i64 %o.word, ptr %o.ticket release, align 8
  %o.more = icmp ult i64 %o.next, %parties
  br i1 %o.more, label %open, label %go
go:
  %helpers = sub i64 %parties, 1
  call void @kick(i64 %helpers)
  call void @draw(i64 0)
  %start = call i64 @llvm.readcyclecounter()
  br label %join
join:
{_load("done", DONE, order="acquire")}  %all = icmp eq i64 %done, %chunks
  br i1 %all, label %joined, label %pause
pause:
  call void @llvm.x86.sse2.pause()
  %clock = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %clock, %start
  %patient = icmp ult i64 %spent, {_PATIENCE}
  br i1 %patient, label %join, label %yield
yield:
  %r = call i32 @sched_yield()
  br label %join
joined:
{_load("failure", FAILURE)}{_store("0", OWNER, order="release")}  %none = icmp eq i64 %failure, -1
  %code = and i64 %failure, 4294967295
  %status = select i1 %none, i64 0, i64 %code
  ret i64 %status
}}
"""

_SIZE = f"""
define i64 @resize(i64 %threads, i64 %spin, i64 %patience) {{
; end all workers; jobs from here on have so many threads
; patience: cycles to wait while the pool is busy; gives 0 if it still is then
entry:
  %start = call i64 @llvm.readcyclecounter()
  br label %take
take:
  %pair = cmpxchg ptr {_at(OWNER)}, i64 0, i64 1 acquire monotonic
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %stop, label %busy
busy:
  %r0 = call i32 @sched_yield()
  %clock = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %clock, %start
  %patient = icmp ult i64 %spent, %patience
  br i1 %patient, label %take, label %refused
refused:
  ret i64 0
stop:
{_store("1", STOP, order="seq_cst")}  call void @kick(i64 {MOST_THREADS})
{_load("started", STARTED)}  br label %joining
joining:
  %k = phi i64 [0, %stop], [%k.next, %one]
  %more = icmp ult i64 %k, %started
  br i1 %more, label %one, label %joined
one:
  %at = getelementptr i64, ptr @handles, i64 %k
  %handle = load i64, ptr %at
  %r1 = call i32 @pthread_join(i64 %handle, ptr null)
  %k.next = add i64 %k, 1
  br label %joining
joined:
{_store("0", STOP)}{_store("0", STARTED)}{_store("%threads", THREADS)}{_store("%spin", SPIN)}\
{_store("0", OWNER, order="release")}  ret i64 1
}}

define void @reset() {{                                    ; in the child of a fork: there are no workers
  call void @renew()
{_store("0", SLEEPERS)}{_store("0", STARTED)}{_store("0", STOP)}{_store("0", PARTIES)}\
{_store("0", OWNER)}  ret void
}}

define i64 @started() {{
{_load("started", STARTED)}  ret i64 %started
}}
"""

#: What the module exports.
FUNCTIONS = ("parallel", "resize", "reset", "started")


def module(futex: int | None) -> str:
    """The pool's text. futex: the number of that system call, None where there is none."""
    sleep = _CONDITION if futex is None else _futex(futex)
    return _HEAD + sleep + _CHUNKS + _WORKER + _PARALLEL + _SIZE
