"""The template of a Python tool's sandboxes.

Started as `python3 -I -S -B -X utf8 template MODULE...` by runners.Template, in a
sandbox of its own that nothing of a tool or a planner enters. It imports the
modules, and then forks a child whenever the spawner asks, ahead of the calls.

A child is the first process of a process namespace. It makes its walls by a
list of system calls that the spawner has computed (internal/contain, Program),
every argument in place: this file knows none of them. At the first that does
not return what the list says, it ends. When the last has returned, it has the
descriptors of a guest and nothing else, says so, and only then becomes the
runner (python.py), which waits for its one call.

The template reads nothing of a child, and waits for one only when the spawner
says that it has ended: until then its number cannot pass to another.
"""
import _socket
import ctypes
import errno
import gc
import mmap
import os
import resource
import struct
import sys
import time
import types
import warnings

RUNNER = "/.casemate/runner"
LATE = "/.casemate/late"
CONNECTION = 3
FORK, REAP, HELLO, FORKED, READY, FAILED, REAPED = range(1, 8)
FIRST = 100  # number of the first descriptor that a child was given
ROOM = 256 << 10  # bytes of a packet
MAX_FDS = 64
NUMBERS = list(range(FIRST, FIRST + MAX_FDS))
HEAD = struct.Struct("<6q")
REPLY = struct.Struct("<4q")
CALL = struct.Struct("<8q")
ANY = -1 << 62  # of a call of which every result will do
CLONE_NEWPID = 0x20000000
COMMON = "datetime", "json", "math", "random"  # what code imports most: a child finds them there
BUSY = 0.02  # seconds between two children, below which time is short
PIDFD_OPEN = 434  # on every processor

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.syscall.argtypes = [ctypes.c_long] * 7


def late(address, count, buf, offset):
    """Carries out the calls and returns (count, 0), or the number of the one
    that failed and its result."""
    for i in range(count):
        nr, a, b, c, d, e, f, want = CALL.unpack_from(buf, offset + i * CALL.size)
        got = libc.syscall(nr, a, b, c, d, e, f)
        if got == -1:
            got = -ctypes.get_errno()
        if got != want and want != ANY:
            return i, got
    return count, 0


def compiled_late(code):
    """late as machine code, which makes nothing between two calls."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    run = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_long)(start)

    def late(address, count, buf, offset):
        i = run(address + offset, count)
        return i, 0 if i == count else struct.unpack_from("<q", buf, offset + i * CALL.size)[0]

    late.memory = memory  # it must stay
    return late


def load(path):
    module = types.ModuleType("casemate_runner")
    module.__file__ = path
    with open(path) as f:
        exec(compile(f.read(), path, "exec"), module.__dict__)
    return module


def shared():
    """What memory of this process a child could write for all others, or None.
    Of a file that was opened to read, a shared mapping cannot be written."""
    flags = os.path.exists("/proc/self/smaps")  # a kernel may have only the other
    name = ""
    with open("/proc/self/smaps" if flags else "/proc/self/maps", errors="replace") as f:
        for line in f:
            words = line.split()
            if not words[0].endswith(":"):
                name = " ".join(words[5:]) or "of no file"
            if words[0] == "VmFlags:" and "sh" in words or not flags and words[1].endswith("s"):
                return name
    return None


def child(runner, wrong, main, late, address, head, buf, ahead, renew):
    kind, ident, offset, count, fds, output = head
    i, result = late(address, count, buf, offset)
    if i != count:
        os.write(CONNECTION, REPLY.pack(FAILED, ident, i, result))
        os._exit(1)
    runner.forked(wrong, main, output, ahead=ahead, renew=renew)


def keep():
    """Keeps the numbers from FIRST on free of the descriptors of modules."""
    for i in range(MAX_FDS):
        os.dup2(0, FIRST + i, inheritable=False)


def offer():
    """Makes these numbers the lowest free ones, which the kernel gives to the
    descriptors that come with a packet."""
    while os.dup(0) < FIRST:
        pass
    os.closerange(FIRST, FIRST + MAX_FDS)


def forking(modules, handlers):
    """How a child is made, and what it then calls: by os.fork; or by _Fork of
    POSIX 2024, which leaves out what only other threads, C code and the handlers
    of modules need. Each page that these write is copied for every child."""
    plain = not modules and not {"sitecustomize", "usercustomize"} & sys.modules.keys()
    if plain and hasattr(libc, "_Fork") and all(list(h) == ["after_in_child"] for h in handlers) and len(os.listdir("/proc/self/task")) == 1:
        return ctypes.PyDLL(None)._Fork, [h["after_in_child"] for h in handlers]
    return os.fork, []


def template():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard >= 0 else 4096, hard))
    keep()
    handlers, register = [], os.register_at_fork

    def note(**kwargs):
        register(**kwargs)
        handlers.append(kwargs)

    os.register_at_fork = note
    runner, modules = load(RUNNER), sys.argv[1:]
    wrong = runner.prepare(modules)
    for name in COMMON:
        try:
            __import__(name)
        except ImportError:
            pass  # an interpreter without its whole library: the code that imports it is told
    for fd in range(3):  # a module may have closed one, and a child counts on where descriptors go
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    run = late
    with open(LATE, "rb") as f:
        code = f.read()
    if code:
        try:
            run = compiled_late(code)
        except OSError:
            pass  # the kernel makes no memory executable that was written: slower
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which a module may have made
    connection = _socket.socket(fileno=CONNECTION)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    buf = ctypes.create_string_buffer(ROOM)
    address = ctypes.addressof(buf)
    view = memoryview(buf)
    runner.reopen()
    main = runner.fresh()
    fork, renew = forking(modules, handlers)
    renew += runner.seeds()
    runner.warm()
    gc.collect()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # what is free would be copied and taken down with every child
    gc.freeze()  # so that no child writes to what it shares
    name = shared()
    if name is not None:
        sys.exit("a module of preload keeps memory that every sandbox would share: " + name)
    offer()
    connection.send(REPLY.pack(HELLO, 0, address, ROOM))
    last = 0
    while True:
        n, control, flags, _ = connection.recvmsg_into([view], _socket.CMSG_SPACE(4 * MAX_FDS))
        if n == 0:
            os._exit(0)
        head = HEAD.unpack_from(buf)
        if head[0] == REAP:
            _, status, used = os.wait4(head[1], 0)
            connection.send(REPLY.pack(REAPED, head[1], status, int((used.ru_utime + used.ru_stime) * 1e9)))
            continue
        given = []
        for level, kind, data in control:
            given += struct.unpack("%di" % (len(data) // 4), data)
        ahead, last = time.monotonic() - last > BUSY, time.monotonic()
        pid, rights = -errno.EMFILE, []
        # The kernel leaves out those that do not fit, and a module that keeps
        # opening files may be in the way: no wall may stand on another's.
        if given == NUMBERS[:head[4]]:
            pid = born(fork, own, lambda: child(runner, wrong, main, run, address, head, buf, ahead, renew))
        if pid > 0:
            pidfd = libc.syscall(PIDFD_OPEN, pid, 0, 0, 0, 0, 0)
            if pidfd < 0:
                os._exit(1)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", pidfd))]
        connection.sendmsg([REPLY.pack(FORKED, head[1], pid, 0)], rights)
        if rights:
            os.close(pidfd)
        for fd in given:
            os.close(fd)


def born(fork, own, child):
    """Returns the number of a child in a process namespace of its own, or
    minus an errno."""
    if libc.unshare(CLONE_NEWPID) != 0:
        return -ctypes.get_errno()
    try:
        pid = fork()
    except OSError as e:
        pid = -e.errno
    if pid == 0:
        try:
            child()
        finally:  # who waits sees that it ended
            os._exit(1)
    if libc.setns(own, CLONE_NEWPID) != 0:
        os._exit(1)  # what it forks next would be born into a namespace that is dying
    return pid if pid != -1 else -errno.EAGAIN


if __name__ == "__main__":
    template()
