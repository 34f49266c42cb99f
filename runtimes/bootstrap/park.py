"""Turns an initialised environment into a template, and each fork of it into an environment.

Loaded by the bootstrap of a process that was started as a template, and by no other.
"""
import _weakref
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


# --- Seeds ----------------------------------------------------------------------------------------------------------
# A generator that the function has given a number like 42 is the function's own: each environment goes on with its sequence, as
# one that was booted does. A seed that is larger, or no number, may come from a clock or from random bytes, and was then
# meant to differ: its generator is renewed like those without a seed.

LARGEST_CHOSEN_SEED = 100_000_000

chosen = {}  # by id: references to the generators with a chosen seed


def chosen_by_hand(seed):
    return isinstance(seed, int) and abs(seed) < LARGEST_CHOSEN_SEED


def note_seed(generator, seed):
    key = id(generator)
    if chosen_by_hand(seed):
        chosen[key] = _weakref.ref(generator, lambda _: chosen.pop(key, None))
    else:
        chosen.pop(key, None)


def is_chosen(generator):
    reference = chosen.get(id(generator))
    return reference is not None and reference() is generator


def watch_random(random):
    """Notes the seeds of Python's generators."""
    kind, shared = getattr(random, "Random", None), getattr(random, "_inst", None)
    if kind is None or type(shared) is not kind:
        return  # a module of the function's own
    seed, setstate = kind.seed, kind.setstate

    def noted_seed(self, a=None, *args, **kwargs):
        seed(self, a, *args, **kwargs)
        note_seed(self, a)

    def noted_setstate(self, state):
        setstate(self, state)
        note_seed(self, None)  # the state may be that of one without a seed

    for old, new in ((seed, noted_seed), (setstate, noted_setstate)):
        new.__name__, new.__qualname__, new.__doc__ = old.__name__, old.__qualname__, old.__doc__
        setattr(kind, old.__name__, new)
    random.seed, random.setstate = shared.seed, shared.setstate


numpy_chosen = False  # the seed of numpy's global generator, which no reference can be made to


def watch_numpy(module):
    """Notes the seed of numpy's global generator; others know theirs."""
    mtrand = getattr(module, "mtrand", None)
    if not hasattr(mtrand, "_rand"):
        return  # a module of the function's own
    set_seed, set_state = mtrand.seed, mtrand.set_state

    def noted_seed(seed=None):
        global numpy_chosen
        set_seed(seed)
        numpy_chosen = chosen_by_hand(seed)

    def noted_set_state(state):
        global numpy_chosen
        set_state(state)
        numpy_chosen = False

    for name, old, new in (("seed", set_seed, noted_seed), ("set_state", set_state, noted_set_state)):
        new.__name__ = new.__qualname__ = name
        new.__doc__ = old.__doc__
        setattr(mtrand, name, new)
        setattr(module, name, new)


AFTER_IMPORT = {"random": watch_random, "numpy.random": watch_numpy}


# --- Generators -----------------------------------------------------------------------------------------------------
# Every object that holds the state of a random number generator is looked for while the template has time, since a
# collection that is frozen cannot be searched, and the environments have none.


def generator_classes():
    found = [getattr(sys.modules.get("_random"), "Random", None)]
    for name in ("BitGenerator", "RandomState"):
        found.append(getattr(sys.modules.get("numpy.random"), name, None))
    return tuple(filter(None, found))


def to_renew(generator):
    """Whether a generator has a state, and no chosen seed."""
    native = sys.modules.get("_random")
    if native is not None and isinstance(generator, native.Random):
        stateless = getattr(sys.modules.get("random"), "SystemRandom", ())
        return not isinstance(generator, stateless) and not is_chosen(generator)
    shared = sys.modules["numpy.random"].mtrand._rand
    if generator is shared or generator is shared._bit_generator:
        return not numpy_chosen
    bits = getattr(generator, "_bit_generator", generator)
    return not chosen_by_hand(getattr(getattr(bits, "_seed_seq", None), "entropy", None))


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
    return [generator for generator in found.values() if to_renew(generator)]


def kept_state():
    """The state of random's global generator, if its seed was chosen: a fork renews it."""
    shared = getattr(sys.modules.get("random"), "_inst", None)
    return shared.getstate() if shared is not None and is_chosen(shared) else None


def reseed(generators, kept):
    native = sys.modules.get("_random")
    numpy = sys.modules.get("numpy.random")
    for generator in generators:
        if native is not None and isinstance(generator, native.Random):
            native.Random.seed(generator, int.from_bytes(os.urandom(256), "little"))
            if hasattr(generator, "gauss_next"):
                generator.gauss_next = None
        elif isinstance(generator, numpy.BitGenerator):
            generator.state = type(generator)().state
        elif isinstance(generator._bit_generator, numpy.MT19937):
            # It keeps a value of the normal distribution besides.
            generator.seed([int.from_bytes(os.urandom(4), "little") for _ in range(64)])
    if kept is not None:
        sys.modules["random"]._inst.setstate(kept)
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
    native.hold()
    runtime.rehearse()
    flush()
    gc.collect()
    generators, kept = find_generators(), kept_state()
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
        reseed(generators, kept)
        after = hooks("get_after_restore")
        while after:
            func, args, kwargs = after.pop(0)
            func(*args, **kwargs)
    except BaseException as error:
        fail(channel, runtime, b"Runtime.AfterRestoreError", error, EXIT_AFTER_RESTORE)
    runtime.LambdaContext.read_environment()
    runtime.rehearse()
    channel.send(b"R", b"%d" % up)
