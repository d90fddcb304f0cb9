"""What signals do while training: the first saves and stops, the second ends at once."""

import os
import signal

import pytest

from rejepa_jax.training.stopping import Stopping


@pytest.fixture(autouse=True)
def handlers():
    """Those of before come back, and both raise in the meantime, even where a shell has set `&`."""
    names = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(name, signal.default_int_handler) for name in names]
    yield
    for name, handler in zip(names, before, strict=True):
        signal.signal(name, handler)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_a_request_and_the_second_ends(name, caplog):
    with Stopping() as stopping:
        assert not stopping.reached(1)
        os.kill(os.getpid(), name)
        assert stopping.reached(2)
        assert stopping.reached(3)
        assert f"{name.name}: saving after this step" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), name)


def test_a_signal_after_a_request_by_the_other_ends():
    with Stopping() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping.reached(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_signals_are_given_back_however_it_ends():
    handlers = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ValueError, match="x"), Stopping():
        raise ValueError("x")
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)] == handlers
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
