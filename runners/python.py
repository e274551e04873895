"""What a Python interpreter (3.8 or newer) of a sandbox runs.

It speaks the frames of internal/guest at descriptor 3: Ready once, then for
each Call the Value of the last expression, or a Failure, and Done. What the
code prints goes to descriptors 1 and 2 as in any program. The argument "code"
runs as the module __main__, which later calls of a session share.

Started as `python3 -I -S -B -X utf8 runner MODULE...`, it serves calls through
the first process of its sandbox (interpret.go). The modules are imported
before the guest is ready.

Forked, it serves one call, and is itself the first process of its sandbox:
who forks executes this file as a module of another name, calls prepare,
reopen and fresh once, and forked in each child. The router has the other end of descriptor 3, and
of the pipes at 1 and 2. Nobody stands between, and so the regular files that
the call left in /out are sent from here, by the rules of out.go.
What differs for the code: it cannot be ended by a signal that it does not
handle (pid_namespaces(7)), orphans become its children, files in /out come
back only where the code comes to an end here (not after a crash, os._exit or
exec), and what was printed does not count to the limit of those files; the
router's own limit ends such a call. Calls of one template share the layout of
the address space, the seed of str's hash and the state of random.Random that a
module made for itself while it was imported. They share the names of abstract
sockets too: one cannot connect to another's, and sees that a name is taken.
`fork: false` is the way without.

The code shares this process and may do anything to it: this is no boundary.
The walls are around the process.
"""
import _ast
import io
import linecache
import os
import signal
import stat
import struct
import sys
import traceback
import types

PIPE = 3
HEADER = struct.Struct(">cII")  # type, call, length of the body
MAX_CALL = 16 << 20  # bytes of a frame's body
MAX_REPLY = 1 << 20
MAX_FAILURE = 64 << 10
VALUE = "__casemate_value__"
# Signals that end a process which does not handle them.
ENDS = set(range(1, 65)) - {signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH}
# Before these the buffered output is written, so that it stays before what
# the new process writes, and is not written twice.
SPAWNS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}

main_pid = os.getpid()  # of the process that answers
current = None  # the call that a forked guest carries out
former = []  # standard files that a module may hold
kept = []  # a module that is dropped is cleared
c_flush = []  # fflush of C, once it is known


def frame(kind, call, body=b""):
    return HEADER.pack(kind, call, len(body)) + body


def send(data):
    data = memoryview(data)
    while data:
        data = data[os.write(PIPE, data):]


def done(call, status):
    return frame(b"D", call, struct.pack(">I", status))


def pairs(ps):
    return struct.pack(">H", len(ps)) + b"".join(struct.pack(">H", len(k)) + k + struct.pack(">I", len(v)) + v for k, v in ps)


def receive(n, have=b""):
    """n bytes or more, of which have is the beginning; no more than n where
    nothing is there."""
    if len(have) >= n:
        return have
    data = bytearray(have)
    while len(data) < n:
        part = os.read(PIPE, min(n - len(data), 1 << 20))
        if not part:
            os._exit(0)  # the sandbox ends
        data += part
    return data


def argument(body, name):
    """The argument of that name of a Call's pairs, or None."""
    count, = struct.unpack_from(">H", body)
    at = 2
    for _ in range(count):
        n, = struct.unpack_from(">H", body, at)
        key = body[at + 2:at + 2 + n]
        at += 2 + n
        n, = struct.unpack_from(">I", body, at)
        if key == name:
            return body[at + 4:at + 4 + n].decode("utf-8", "replace")
        at += 4 + n
    return None


def flush(more=()):
    for f in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *former, *more):
        try:
            f.flush()
        except Exception:
            pass  # closed, or replaced by what cannot be flushed


def watch(event, args):
    if event in SPAWNS:
        flush()
    elif event == "os.kill" and args[0] == 1 == os.getpid() and current is not None:
        ended_by(args[1])


def ended_by(number):
    """Ends the first process of a process namespace as a signal of its own
    would end any other; the kernel drops it there."""
    if number == signal.SIGKILL or number in ENDS and signal.getsignal(number) == signal.SIG_DFL:
        why = "python was ended by signal %d (%s)" % (number, signal.strsignal(number).lower())
        send(frame(b"X", current, why.encode()) + done(current, 128 + number))
        os._exit(128 + number)


HERE = watch.__code__.co_filename


def explain(e):
    """The traceback of e from the user's first frame on."""
    tb = e.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == HERE:
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except BaseException:  # no memory, no stack, or a hostile class
        text = type(e).__name__ + ": its traceback cannot be shown\n"
    if len(text) > MAX_FAILURE // 4:  # a character has up to four bytes
        text = text[:MAX_FAILURE // 8] + "\n[...]\n" + text[-MAX_FAILURE // 8:]
    return text


def compiled(code, name):
    """The code object of code, which leaves the last expression's value in
    the variable VALUE; so one compilation keeps the meaning of __future__
    imports and the lines of tracebacks."""
    tree = compile(code, name, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, _ast.Expr):
        at = {a: getattr(last, a) for a in last._attributes}
        tree.body[-1] = _ast.Assign(targets=[_ast.Name(id=VALUE, ctx=_ast.Store(), **at)], value=last.value, **at)
    return compile(tree, name, "exec", dont_inherit=True)


def run(code, name, main):
    """Runs code and returns (text of the last value, text of the failure,
    exit status); a text that there is none of is None."""
    try:
        exec(compiled(code, name), main)
        value = main.pop(VALUE, None)
        return (None if value is None else repr(value)), None, 0
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return None, None, (e.code or 0) & 0xFF
        print(e.code, file=sys.stderr)
        return None, None, 1
    except BaseException as e:
        return None, explain(e), 1


def answer(wrong, call, body, calls, main):
    """Carries a Call out and returns the frames of its answer but Done, and
    its exit status."""
    if wrong is not None:
        return frame(b"X", call, wrong.encode("utf-8", "backslashreplace")), 1
    code = argument(body, b"code")
    if code is None:
        return frame(b"X", call, b"the argument code is missing"), 2
    name = "<code>" if calls == 1 else "<code %d>" % calls
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    value, failure, status = run(code, name, main)
    # A file that the code forgot to close is complete all the same.
    flush(v for v in list(main.values()) if isinstance(v, (io.TextIOWrapper, io.BufferedWriter)))
    if os.getpid() != main_pid:
        # A child that the code forked and that came to the end of the code.
        # It is not the one that answers.
        if failure is not None:
            sys.stderr.write(failure)
            flush()
        os._exit(status)
    if "ctypes" in sys.modules:
        try:
            flush_c()  # what C code printed
        except Exception:
            pass
    frames = b""
    if value is not None:
        data = value.encode("utf-8", "backslashreplace")
        if len(data) <= MAX_REPLY:
            frames = frame(b"V", call, data)
        else:  # longer than a frame: printed, and so counted, as output is
            with open(1, "wb", closefd=False) as f:
                f.write(data + b"\n")
    if failure is not None:
        frames += frame(b"X", call, failure.encode("utf-8", "backslashreplace"))
    return frames, status


def flush_c():
    if not c_flush:
        c_flush.append(sys.modules["ctypes"].CDLL(None).fflush)
    c_flush[0](None)


def sites():
    """What an interpreter does about site-packages when it starts, but for the
    lines of code in .pth files: any package may leave one there, for debuggers,
    coverage or a host's proxy, and nobody named it for this tool."""
    import site
    site.exec = lambda line: None
    site.main()


def prepare(modules):
    """What is done before there is code, in the interpreter or in who forks
    it. Returns the text of what went wrong, or None."""
    if sys.flags.no_site:
        sites()
    for f in (sys.stdout, sys.stderr):
        f.reconfigure(line_buffering=True, errors="backslashreplace")
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("MPLCONFIGDIR", "/tmp/.matplotlib")
    sys.addaudithook(watch)
    for m in modules:
        try:
            __import__(m)
        except BaseException as e:
            return "preload: the module %s cannot be imported: %s\n" % (m, "".join(traceback.format_exception_only(type(e), e)).strip()[:MAX_FAILURE // 8])
    return None


def fresh():
    """The variables of a new __main__."""
    sys.argv = [""]
    sys.path.append("")  # the working folder, after the library
    kept.append(sys.modules["__main__"])
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    return main.__dict__


READY = frame(b"R", 0, pairs([(b"version", b"1"), (b"runtime", b"Python " + sys.version.split()[0].encode())]))


def loop():
    modules = sys.argv[1:]
    os.set_inheritable(PIPE, False)
    wrong = prepare(modules)
    main = fresh()
    send(READY)
    calls = 0
    while True:
        kind, call, n = HEADER.unpack(receive(HEADER.size))
        body = receive(n)
        calls += 1
        if "random" in sys.modules:
            sys.modules["random"].seed()
        frames, status = answer(wrong, call, body, calls, main)
        send(frames + done(call, status))


# The bounds of what comes back of the out folder, as in out.go.
MAX_FILES = 64
MAX_ENTRIES = 4096
MAX_DEPTH = 16
MIMES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
    ".bmp": "image/bmp", ".svg": "image/svg+xml", ".pdf": "application/pdf", ".json": "application/json",
    ".xml": "application/xml", ".zip": "application/zip", ".csv": "text/csv", ".html": "text/html",
    ".htm": "text/html", ".md": "text/markdown", ".txt": "text/plain", ".log": "text/plain",
}


def walk(out, rel="", depth=0, seen=None):
    """The names of the regular files below a folder, in order; None where
    there are more entries than may be looked at."""
    seen = [0] if seen is None else seen
    try:
        with os.scandir(out + "/" + rel if rel else out) as found:
            entries = sorted(found, key=lambda e: os.fsencode(e.name))
    except OSError:
        return
    for e in entries:
        seen[0] += 1
        if seen[0] > MAX_ENTRIES:
            yield None
            return
        name = rel + "/" + e.name if rel else e.name
        if e.is_file(follow_symlinks=False):
            yield name
        elif depth < MAX_DEPTH and e.is_dir(follow_symlinks=False):
            for below in walk(out, name, depth + 1, seen):
                yield below
                if below is None:
                    return


def valid(name):
    """The name in UTF-8, a run of other bytes replaced by one character."""
    text = "".join("\ud800" if "\ud800" <= c <= "\udfff" else c for c in name)
    while "\ud800\ud800" in text:
        text = text.replace("\ud800\ud800", "\ud800")
    return text.replace("\ud800", "\ufffd").encode()


def files(out, call, output, left):
    """Frames of the regular files in the out folder, left bytes of them at
    most. What does not fit is named on standard error."""
    def note(text):
        return frame(b"E", call, b"casemate: " + os.fsencode(out + ": " + text) + b"\n")

    try:
        if not os.listdir(out):  # as nearly always
            return
    except OSError:
        return
    sent = 0
    for name in walk(out):
        try:  # the tool's processes may still run and put something else here
            fd = None if name is None else os.open(out + "/" + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        if fd is None or sent == MAX_FILES:
            if fd is not None:
                os.close(fd)
            yield note("a result has at most %d files; the others are left out" % MAX_FILES)
            return
        with open(fd, "rb", buffering=0) as f:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                continue
            if st.st_size > left:
                yield note("%s (%d bytes) is left out: the whole result may have %d bytes; raise output" % (name, st.st_size, output))
                continue
            data = bytearray()
            while len(data) < st.st_size:
                part = f.read(st.st_size - len(data))
                if not part:
                    break
                data += part
        sent += 1
        left -= len(data)
        base = name.rpartition("/")[2]
        mime = MIMES.get("." + base.rpartition(".")[2].lower() if "." in base else "", "application/octet-stream")
        yield frame(b"F", call, pairs([(b"name", valid(name)), (b"mime", mime.encode()), (b"data", data)]))


def warm(out="/out", fails=True):
    """Goes the way of a call once, so that what it makes once is made: in who
    forks; and again in the child, whose pages are copied when it writes to
    them, before anybody waits."""
    for code in (b"print(end='')\n0", b"1/0")[:2 if fails else 1]:
        body = bytearray(pairs([(b"code", code)]))
        frames, status = answer(None, 0, body, 1, {"__builtins__": sys.modules["builtins"]})
        b"".join(files(out, 0, 0, 0))
        frames + done(0, status)


def seeds():
    """What gives a forked process random state of its own, as functions. What
    asks the kernel each time needs nothing, and the module random has a handler
    of fork."""
    have = sys.modules.get
    calls = []
    if have("numpy.random"):
        calls.append(have("numpy.random").seed)
    if have("ssl"):  # OpenSSL tells a fork by its pid, which is the same in every sandbox
        calls.append(lambda: have("ssl").RAND_add(os.urandom(32), 32.0))
    if have("tempfile"):
        calls.append(lambda: setattr(have("tempfile"), "_name_sequence", None))
    if have("multiprocessing.process"):
        calls.append(lambda: setattr(have("multiprocessing.process").current_process(), "authkey", os.urandom(32)))
    for name in ("_node", "_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7"):
        if hasattr(have("uuid"), name):
            calls.append(lambda name=name: setattr(have("uuid"), name, None))
    return calls


def reopen():
    """Standard files of Python over descriptors 0 to 2, whatever these are when
    somebody reads or writes: for who forks, so that no child has to make them."""
    for name, fd in ("stdin", 0), ("stdout", 1), ("stderr", 2):
        if fd == 0:
            f = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
        else:
            former.append(getattr(sys, name))
            f = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        f.buffer.raw.name = "<%s>" % name
        f.mode = "r" if fd == 0 else "w"
        setattr(sys, name, f)
        setattr(sys, "__%s__" % name, f)


def forked(wrong, main, output, out="/out", ahead=True, renew=()):
    """Serves one call in a process that was forked, and ends it: it does not
    return. wrong is what prepare said, main the variables of a fresh __main__,
    output the bytes that the tool's result may have, renew what it calls first.
    ahead says that nobody waits for it yet. Descriptors 0 to 3 are the guest's,
    no program inherits the last, and every wall is up."""
    global main_pid, current
    try:
        main_pid = os.getpid()
        for call in renew:
            call()
        if ahead:
            warm(out, False)
        send(READY)
        data = os.read(PIPE, 32 << 10)
        if not data:
            os._exit(0)  # the sandbox ends
        data = receive(HEADER.size, data)
        kind, call, n = HEADER.unpack_from(data)
        data = receive(HEADER.size + n, data)
        current = call
        frames, status = answer(wrong, call, data[HEADER.size:], 1, main)
        for f in files(out, call, output, min(output - len(frames), MAX_CALL - (64 << 10))):
            if len(frames) + len(f) > 64 << 10:
                send(frames)
                frames = b""
            frames += f
        send(frames + done(call, status))
        os._exit(0)
    except BaseException:  # such as a descriptor that the code closed
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    loop()
