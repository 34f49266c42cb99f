"""Measures what an init spends its time on: the modules that are imported and the connections that are opened.

Loaded by the bootstrap of a process that is told to measure, and forgotten when init is over. What it replaces is where nobody
keeps a reference from: classes give their original methods to who asks the class, and all is put back at the end, unless the function
has replaced it meanwhile. It never makes an init fail.
"""
import _frozen_importlib as importlib
import _thread
import os
import sys
import time

RECORDED = 8000  # modules that are measured
MODULES = 2000  # of these, as many are told that took longest
CONNECTIONS = 100
RESOLVED = 1000  # addresses whose host is remembered
LONGEST = 300  # characters of a name or a file

clock = time.perf_counter_ns
ident = _thread.get_ident

recording = False
begun = 0
dropped = 0
records = []  # in the order in which the imports began
current = {}  # by thread: the record of the import that it is in
connections = []
restore = []  # what puts things back


class Record:
    __slots__ = ("name", "parent", "start", "total", "nested", "failed", "running")


# --- Imports --------------------------------------------------------------------------------------------------------
# Every import of a module that is not there yet, of whatever kind, goes through this function of the interpreter's, which is
# looked up by its name each time.

find_and_load = importlib._find_and_load


def _find_and_load(name, import_):
    global dropped
    if not recording or name in sys.modules:
        return find_and_load(name, import_)
    if len(records) >= RECORDED:
        dropped += 1
        return find_and_load(name, import_)
    thread = ident()
    record = Record()
    record.name = name
    record.parent = outer = current.get(thread)
    record.nested = 0
    record.failed = record.running = True
    records.append(record)
    current[thread] = record
    record.start = start = clock()
    try:
        module = find_and_load(name, import_)
        record.failed = False
        return module
    finally:
        record.total = total = clock() - start
        record.running = False
        current[thread] = outer
        if outer is not None:
            outer.nested += total
        if name in WATCHED and not record.failed:
            watch(name)


# Python leaves the importing functions out of tracebacks and of warnings' places by the name of their file.
_find_and_load.__code__ = _find_and_load.__code__.replace(co_filename="<frozen importlib._bootstrap>")


# --- Connections ----------------------------------------------------------------------------------------------------


class Connection:
    __slots__ = ("host", "address", "start", "dns", "tcp", "tls", "module", "error")


by_address = {}  # the connection for which an address was looked up
by_descriptor = {}  # the connection of a socket


def new_connection(host, start):
    global dropped
    c = Connection()
    c.host, c.start, c.module = host, start, current.get(ident())
    c.address = c.error = ""
    c.dns = c.tcp = c.tls = 0
    if len(connections) < CONNECTIONS:
        connections.append(c)
    else:
        dropped += 1
    return c


def text(value):
    return value if type(value) is str else str(value, "ascii", "replace") if isinstance(value, bytes) else ""


class Timed:
    """Stands in a class for a method: objects get what measures it, and who asks the class itself gets the original."""

    __slots__ = ("original", "replacement")

    def __init__(self, original, replacement):
        self.original, self.replacement = original, replacement

    def __get__(self, instance, owner=None):
        if instance is None:
            return self.original
        return self.replacement.__get__(instance, owner)


def watch_socket(socket):
    native, kind = sys.modules["_socket"], socket.socket
    if kind.__mro__[1] is not native.socket or "connect" in kind.__dict__:
        return  # a module of the function's own
    lookup, original = native.getaddrinfo, native.socket.connect
    stream = int(native.SOCK_STREAM)

    def getaddrinfo(*args, **kwargs):
        host = text(args[0] if args else kwargs.get("host"))
        if not recording or not host:
            return lookup(*args, **kwargs)
        c = new_connection(host, clock())
        try:
            found = lookup(*args, **kwargs)
        except BaseException as error:
            c.error = type(error).__name__
            raise
        finally:
            c.dns = clock() - c.start
        if len(by_address) < RESOLVED:
            for entry in found:
                by_address[entry[4][:2]] = c
        return found

    def connection_to(self, address):
        if type(address) is not tuple or native.socket.type.__get__(self) & 0xF != stream:
            return None
        host, port = address[:2]
        host = text(host)
        at = ("[%s]:%s" if ":" in host else "%s:%d") % (host, port)
        c = by_address.get((host, port))
        if c is None or c.address:
            c = new_connection(c.host if c else host, clock())
        c.address = at
        by_descriptor[native.socket.fileno(self)] = c
        return c

    def connect(self, address):
        c = None
        if recording:
            try:
                c = connection_to(self, address)
            except Exception:
                pass  # an address that the original refuses, or that names no host
        if c is None:
            return original(self, address)
        start = clock()
        try:
            return original(self, address)
        except BlockingIOError:
            start = clock()  # it goes on behind this program's back
            raise
        except BaseException as error:
            c.error = type(error).__name__
            raise
        finally:
            c.tcp = clock() - start

    def put_back():
        if native.getaddrinfo is getaddrinfo:
            native.getaddrinfo = lookup
        if kind.__dict__.get("connect") is timed:
            del kind.connect

    timed = Timed(original, connect)
    restore.append(put_back)
    native.getaddrinfo = getaddrinfo
    kind.connect = timed


def watch_ssl(ssl):
    kind = ssl.SSLSocket
    original = kind.__dict__["do_handshake"]

    def do_handshake(self, *args, **kwargs):
        c = by_descriptor.get(self.fileno()) if recording else None
        if c is None:
            return original(self, *args, **kwargs)
        start = clock()
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            c.error = type(error).__name__
            raise
        finally:
            c.tls += clock() - start

    def put_back():
        if kind.__dict__.get("do_handshake") is timed:
            kind.do_handshake = original

    timed = Timed(original, do_handshake)
    restore.append(put_back)
    kind.do_handshake = timed


WATCHED = {"socket": watch_socket, "ssl": watch_ssl}


def watch(name):
    try:
        WATCHED[name](sys.modules[name])
    except Exception:
        pass  # not the module that it is named after


# --- Begin and end --------------------------------------------------------------------------------------------------


def begin():
    global recording, begun
    importlib._find_and_load = _find_and_load
    for name in WATCHED:
        if name in sys.modules:
            watch(name)
    begun = clock()
    recording = True


def end():
    """Puts everything back, and gives what was measured, as the host reads it."""
    global recording
    now = clock()
    recording = False
    if importlib._find_and_load is _find_and_load:
        importlib._find_and_load = find_and_load
    while restore:
        restore.pop()()
    told = tell(now)
    for kept in (records, connections):
        del kept[:]
    for kept in (current, by_address, by_descriptor):
        kept.clear()
    return told


def tell(now):
    for record in records:
        if record.running:
            record.total = now - record.start
        # A package is imported within the import of a module in it. It is told as imported before it, by the same importer.
        child, parent = record, record.parent
        while parent is not None and parent.name.startswith(child.name + "."):
            parent.start = child.start + child.total
            parent.total -= child.total
            parent.nested -= child.total
            child.parent = parent = parent.parent
    chosen = sorted(records, key=lambda record: record.start)
    left_out = 0
    if len(chosen) > MODULES:
        # What took as long as what it imported comes first, so that whoever is told has its importer told, too.
        longest = sorted(chosen, key=lambda record: -record.total)[:MODULES]
        kept = set(map(id, longest))
        left_out = len(chosen) - len(kept)
        chosen = [record for record in chosen if id(record) in kept]
    index = {id(record): i for i, record in enumerate(chosen)}
    files = [file_of(record) for record in chosen]
    return {
        "kind": "import",
        "names": [str(record.name)[:LONGEST] for record in chosen],
        "parents": [index.get(id(record.parent), -1) for record in chosen],
        "files": [file for file, _ in files],
        "bytes": [size for _, size in files],
        "starts": [micro(record.start - begun) for record in chosen],
        "selves": [micro(record.total - record.nested) for record in chosen],
        "totals": [micro(record.total) for record in chosen],
        "failed": [i for i, record in enumerate(chosen) if record.failed],
        "connections": [
            {
                "host": c.host[:LONGEST],
                "address": c.address[:LONGEST],
                "start": micro(c.start - begun),
                "dns": micro(c.dns),
                "tcp": micro(c.tcp),
                "tls": micro(c.tls),
                "module": index.get(id(c.module), -1),
                "error": c.error[:LONGEST],
            }
            for c in connections
        ],
        "dropped": dropped + left_out,
    }


def micro(ns):
    return ns // 1000


def file_of(record):
    """The file that a module was made of, and its size: the bytecode's where there is one. Runs no code of the module's."""
    try:
        space = object.__getattribute__(sys.modules[record.name], "__dict__")
        spec = space.get("__spec__")
        if type(spec) is not importlib.ModuleSpec or type(spec.origin) is not str:
            return "", 0
        if not spec.has_location:
            return "", 0
        for file in (spec.cached, spec.origin):
            try:
                if file:
                    return file[:LONGEST], os.stat(file).st_size
            except OSError:
                pass
        return spec.origin[:LONGEST], 0
    except Exception:
        return "", 0
