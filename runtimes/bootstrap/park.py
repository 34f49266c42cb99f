"""Turns an initialised environment into a template, and each fork of it into an environment.

Loaded by the bootstrap when the host asks for it, so that it costs nothing where nobody does.
"""
import gc
import os
import sys
import time

EXIT_BEFORE_SNAPSHOT = 64
EXIT_AFTER_RESTORE = 65


def hooks(name):
    """The functions that were registered with snapshot_restore_py, whoever brought it."""
    module = sys.modules.get("snapshot_restore_py")
    return getattr(module, name)() if module is not None else []


def fail(channel, runtime, kind, error, status):
    description = runtime.describe(error)
    runtime.log_error(description)
    channel.send(b"X", kind, runtime.encode(runtime.serialize(description)))
    os._exit(status)


def load_native(channel, runtime):
    try:
        from _frozen_importlib_external import ExtensionFileLoader, spec_from_file_location
        from _imp import create_dynamic

        path = os.path.join(os.path.dirname(__file__), "fork.so")
        return create_dynamic(spec_from_file_location("fork", path, loader=ExtensionFileLoader("fork", path)))
    except Exception as error:
        fail(channel, runtime, b"Runtime.ForkUnavailable", error, 1)


# --- Generators -----------------------------------------------------------------------------------------------------
# Every object that holds the state of a random number generator is looked for while the template has time, since a
# collection that is frozen cannot be searched, and the environments have none.


def generator_classes():
    found = []
    native = sys.modules.get("_random")
    if native is not None:
        found.append(native.Random)
    bits = getattr(sys.modules.get("numpy.random"), "BitGenerator", None)
    if bits is not None:
        found.append(bits)
    return tuple(found)


def find_generators():
    classes = generator_classes()
    if not classes:
        return []
    found, seen = {}, set()
    pending = gc.get_objects()
    seen.update(map(id, pending))
    while pending:
        for value in gc.get_referents(*pending[-1000:]):
            if isinstance(value, classes):
                found[id(value)] = value
            # Containers that the collector does not follow can hold generators all the same.
            if id(value) not in seen and isinstance(value, (dict, list, tuple, set, frozenset)):
                seen.add(id(value))
                pending.insert(0, value)
        del pending[-1000:]
    return list(found.values())


def reseed(generators):
    native = sys.modules.get("_random")
    system = getattr(sys.modules.get("random"), "SystemRandom", ())
    numpy = sys.modules.get("numpy")
    for generator in generators:
        if native is not None and isinstance(generator, native.Random):
            if system and isinstance(generator, system):
                continue  # has no state
            native.Random.seed(generator, int.from_bytes(os.urandom(256), "little"))
            if hasattr(generator, "gauss_next"):
                generator.gauss_next = None
        elif numpy is not None:
            generator.state = type(generator)().state
    legacy = getattr(sys.modules.get("numpy.random"), "seed", None)
    if legacy is not None:
        legacy([int.from_bytes(os.urandom(4), "little") for _ in range(64)])
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(64), 64.0)
        if not ssl.RAND_status():
            raise RuntimeError("OpenSSL's random number generator has no seed")
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        # A node of its own, as RFC 9562 (6.10) allows, and no clock sequence that the C library has kept.
        uuid._node = int.from_bytes(os.urandom(6), "little") | 1 << 40
        for name in ("_generate_time_safe", "_UuidCreate", "_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7"):
            if hasattr(uuid, name):
                setattr(uuid, name, None)


# --- Template -------------------------------------------------------------------------------------------------------


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def park(channel, runtime):
    native = load_native(channel, runtime)
    before = hooks("get_before_snapshot")
    try:
        while before:
            func, args, kwargs = before.pop()
            func(*args, **kwargs)
    except BaseException as error:
        fail(channel, runtime, b"Runtime.BeforeSnapshotError", error, EXIT_BEFORE_SNAPSHOT)
    flush()
    gc.collect()
    generators = find_generators()
    gc.freeze()
    channel.send(b"P")
    channel.parked = True
    variables = native.park()
    # This is an environment from here on.
    channel.parked = False
    up = time.time_ns() // 1000
    try:
        for pair in variables.split(b"\0")[:-1]:
            name, _, value = pair.partition(b"=")
            os.environb[name] = value
        reseed(generators)
        after = hooks("get_after_restore")
        while after:
            func, args, kwargs = after.pop(0)
            func(*args, **kwargs)
    except BaseException as error:
        fail(channel, runtime, b"Runtime.AfterRestoreError", error, EXIT_AFTER_RESTORE)
    channel.send(b"R", b"%d" % up)
