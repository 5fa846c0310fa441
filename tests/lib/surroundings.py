# SPDX-License-Identifier: Apache-2.0
"""What tests find around them: the same on each machine, however the runner was started.

settle() gives this process, and so whatever it starts from then on, default
signal dispositions and no blocked signals, a umask of 022, usual limits, and
an environment of its own. Whoever wants to know whether the tests depend on
something in the environment names it: SCOPE_TEST_ENV="PATH LANG" keeps these
variables as they are.
"""

import contextlib
import os
import pwd
import resource
import signal
import stat

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Variables of the surroundings that mean something to the runner or to sanitizers.
KEPT = ("SCOPE_BIN", "SCOPE_TEST_ENV", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TMPDIR", "TERM")
UNLIMITED = resource.RLIM_INFINITY
# Soft limits: a program may know them by getrlimit(2), or run into them.
LIMITS = {"CORE": 0, "NOFILE": 1024, "STACK": 8 << 20, "CPU": UNLIMITED, "FSIZE": UNLIMITED, "DATA": UNLIMITED,
          "AS": UNLIMITED, "RSS": UNLIMITED}


def _signals():
    """exec(2) keeps what is ignored, and resets what is handled: a handler that does nothing keeps an ignored signal
    from ending the runner (nohup, a background job of a shell), and programs under test get the default."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGPIPE:
            signal.signal(number, lambda *_: None)
    # SIGPIPE is Python's own; subprocess resets it (restore_signals).
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _limits():
    for name, soft in LIMITS.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
            # Root may raise it.
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(which, (soft, soft))
                continue
            soft = hard
        resource.setrlimit(which, (soft, hard))


def _descriptors():
    """Descriptors that somebody has forgotten to close on exec are none of the tests' business. Standard ones exist, and
    nothing is read: a program that looks whether something comes may find a terminal here, a pipe there."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _environment():
    kept = {*KEPT, *os.environ.get("SCOPE_TEST_ENV", "").split()}
    found = {name: value for name, value in os.environ.items() if name in kept}
    user = "root"
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(os.geteuid()).pw_name
    os.environ.clear()
    # HOME has no configuration of somebody's tools in it; a Context has a home of its own.
    os.environ.update({"PATH": PATH, "HOME": "/nonexistent", "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8",
                       "LANG": "C.UTF-8", "TZ": "UTC", "TERM": "dumb", **found})


def settle():
    _descriptors()
    _signals()
    _limits()
    _environment()
    os.umask(0o022)
    # Real-time classes and the like are inherited, too; niceness stays, it is the user's wish.
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
