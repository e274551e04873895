"""What a Python interpreter (3.8 or newer) of a sandbox runs.

It speaks the frames of internal/guest at descriptor 3 with the first process
of the sandbox (interpret.go), which carries them to the router and back:
Ready once, then for each Call the Value of the last expression, or a Failure,
and Done. What the code prints goes to descriptors 1 and 2 as in any program.

Started as `python3 -I -B -X utf8 runner MODULE...`: the modules are imported
before the guest is ready. The argument "code" runs as the module __main__,
which later calls of a session share.

The code shares this process and may do anything to it: this is no boundary.
The walls are around the process.
"""
import ast
import io
import linecache
import os
import struct
import sys
import traceback
import types

PIPE = 3
HEADER = struct.Struct(">cII")  # type, call, length of the body
MAX_REPLY = 1 << 20  # bytes of a frame's body
MAX_FAILURE = 64 << 10
HERE = __file__
MAIN = os.getpid()
# Before these the buffered output is written, so that it stays before what
# the new process writes, and is not written twice.
SPAWNS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}


def send(kind, call, body=b""):
    data = memoryview(HEADER.pack(kind, call, len(body)) + body)
    while data:
        data = data[os.write(PIPE, data):]


def receive(n):
    data = bytearray()
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
    for f in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *more):
        try:
            f.flush()
        except Exception:
            pass  # closed, or replaced by what cannot be flushed


def watch(event, args):
    if event in SPAWNS:
        flush()


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
    tree = compile(code, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        to = ast.Assign(targets=[ast.Name(id=VALUE, ctx=ast.Store())], value=last.value)
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(to, last))
    return compile(tree, name, "exec", dont_inherit=True)


VALUE = "__casemate_value__"


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


def answer(call, body, calls, main):
    code = argument(body, b"code")
    if code is None:
        send(b"X", call, b"the argument code is missing")
        return 2
    name = "<code>" if calls == 1 else "<code %d>" % calls
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    if "random" in sys.modules:
        sys.modules["random"].seed()
    value, failure, status = run(code, name, main)
    # A file that the code forgot to close is complete all the same.
    flush(v for v in list(main.values()) if isinstance(v, (io.TextIOWrapper, io.BufferedWriter)))
    if os.getpid() != MAIN:
        # A child that the code forked and that came to the end of the code.
        # It is not the one that answers.
        if failure is not None:
            sys.stderr.write(failure)
            flush()
        os._exit(status)
    if "ctypes" in sys.modules:
        try:
            sys.modules["ctypes"].CDLL(None).fflush(None)  # what C code printed
        except Exception:
            pass
    if value is not None:
        data = value.encode("utf-8", "backslashreplace")
        if len(data) <= MAX_REPLY:
            send(b"V", call, data)
        else:  # longer than a frame: printed, and so counted, as output is
            with open(1, "wb", closefd=False) as f:
                f.write(data + b"\n")
    if failure is not None:
        send(b"X", call, failure.encode("utf-8", "backslashreplace"))
    return status


def preload(modules):
    """Imports modules; the text of what went wrong, or None."""
    for m in modules:
        try:
            __import__(m)
        except BaseException as e:
            return "preload: the module %s cannot be imported: %s\n" % (m, "".join(traceback.format_exception_only(type(e), e)).strip())
    return None


def loop():
    modules, sys.argv = sys.argv[1:], [""]
    os.set_inheritable(PIPE, False)
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("MPLCONFIGDIR", "/tmp/.matplotlib")
    for f in (sys.stdout, sys.stderr):
        f.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.addaudithook(watch)
    wrong = preload(modules)
    sys.path.append("")  # the working folder, after the library
    own = sys.modules["__main__"]  # kept: a module that is dropped is cleared
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = own.__builtins__
    sys.modules["__main__"] = main
    runtime = b"Python " + sys.version.split()[0].encode()
    pairs = [(b"version", b"1"), (b"runtime", runtime)]
    send(b"R", 0, struct.pack(">H", len(pairs)) + b"".join(struct.pack(">H", len(k)) + k + struct.pack(">I", len(v)) + v for k, v in pairs))
    calls = 0
    while True:
        kind, call, n = HEADER.unpack(receive(HEADER.size))
        body = receive(n)
        calls += 1
        if wrong is not None:
            send(b"X", call, wrong.encode("utf-8", "backslashreplace"))
            status = 1
        else:
            status = answer(call, body, calls, main.__dict__)
        send(b"D", call, struct.pack(">I", status))


if __name__ == "__main__":
    loop()
