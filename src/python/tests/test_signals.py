import signal

from conftest import in_a_process

from tower_dspy.patches import signals


def with_signals(code: str) -> str:
    imports = "import os, signal, logging\nfrom tower_dspy.patches import signals"
    return in_a_process(f"{imports}\n{code}")


def test_a_handler_is_stored_and_not_installed():
    said = with_signals("""
signal.signal(signal.SIGTERM, lambda *_: print("host", flush=True))
host = signal.getsignal(signal.SIGTERM)
signals.install()
mine = lambda *_: print("mine", flush=True)
print(signal.signal(signal.SIGTERM, mine) is host)
print(signal.getsignal(signal.SIGTERM) is mine)
os.kill(os.getpid(), signal.SIGTERM)
print(signal.signal(signal.SIGTERM, host) is mine, signal.getsignal(signal.SIGTERM) is host)
""")
    assert said.split() == ["True", "True", "host", "True", "True"]


def test_invalid_arguments_raise_as_without_the_patch():
    with_signals("""
signals.install()
for number, handler, error in (
    (signal.SIGKILL, signal.SIG_DFL, OSError),
    (signal.SIGSTOP, signal.SIG_DFL, OSError),
    (0, signal.SIG_DFL, ValueError),
    (65, signal.SIG_DFL, ValueError),
    (signal.SIGTERM, "handler", TypeError),
    (signal.SIGTERM, None, TypeError),
    ("SIGTERM", signal.SIG_DFL, TypeError),
):
    try:
        signal.signal(number, handler)
    except error:
        continue
    raise AssertionError((number, handler))
""")


def test_the_warning_is_given_once_for_each_program_and_not_for_a_restore():
    said = with_signals("""
logging.basicConfig(format="%(message)s", stream=__import__("sys").stdout)
signals.install()
names = ["a", "a", "b", None]
for name in names:
    signals.name_programs(lambda: name)
    signal.signal(signal.SIGUSR1, print)
    signals.name_programs(lambda: "restores")
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
""")
    named = [line.split(" sets ")[0] for line in said.splitlines()]
    assert named == ["a", "b", "code that belongs to no call"]


def test_a_forked_child_has_the_handlers_of_its_program_and_none_of_the_host():
    said = with_signals("""
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
    signal.signal(number, lambda *_: None)
host = signal.getsignal(signal.SIGALRM)
signals.install()
mine = lambda *_: None
signal.signal(signal.SIGUSR1, mine)
if os.fork() == 0:
    print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)
    print(signal.getsignal(signal.SIGUSR1) is mine, flush=True)
    print(signal.getsignal(signal.SIGALRM) is host, flush=True)
    signal.signal(signal.SIGTERM, mine)
    os.kill(os.getpid(), signal.SIGTERM)
    print("alive", flush=True)
    os._exit(0)
os.wait()
""")
    assert said.split() == ["True", "True", "True", "alive"]


def test_nothing_is_replaced_before_the_install():
    assert signal.signal is signals._signal
    assert signal.getsignal is signals._getsignal
