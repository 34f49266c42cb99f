"""Functions that run around a snapshot of an initialised environment.

The same interface as the package of this name on PyPI, for functions that do not bring it. Those that do get their own.
"""

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Calls func before the snapshot; what was registered last is called first."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Calls func in each restored environment, in the order of registration."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return _before_snapshot


def get_after_restore():
    return _after_restore
