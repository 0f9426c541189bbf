# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers of focusd see when something below it fails, and that it comes back by itself."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


def test_initialize_without_a_controller_fails_with_the_reason(make_chain: Any) -> None:
    chain = make_chain(serial_port="/dev/no-such-port")
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 1
        assert focusd.report_status()["status"] == 0
    assert "ERROR focusd@test: MultiFocus 1: " in chain.log
    assert "/dev/no-such-port" in chain.log


def test_initialize_succeeds_once_the_controller_is_there(make_chain: Any) -> None:
    chain = make_chain()
    chain.simulator.pull_cable()
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 1
        chain.simulator.replug_cable()
        assert focusd.initialize() == 0


def test_a_controller_with_fewer_channels_than_configured_is_not_initialized(make_chain: Any) -> None:
    chain = make_chain(channels=1)
    chain.write_config(channels=2)
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 1
        status = focusd.report_status()
        assert (status["status"], status["status_1"], status["status_2"]) == (0, 1, 0)
        # What is there works.
        assert focusd.set_focus(1, 100) == 0
        assert focusd.set_focus(2, 100) == 7
        assert focusd.shutdown() == 0
    assert "there is no channel 2" in chain.log


def test_without_an_indi_server_initialize_fails_and_says_so(make_chain: Any) -> None:
    chain = make_chain(indi_host="192.0.2.1")
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 1
        assert focusd.set_focus(1, 5) == 7
    assert f"ERROR focusd@test: cannot connect: the INDI server 192.0.2.1:{chain.indi_port}" in chain.log


def test_a_server_without_our_devices_is_named(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_server()
    chain.write_config(labels={"1": "Left", "2": "Right"})
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 1
    assert f"the INDI server localhost:{chain.indi_port} has no Left and no Right" in chain.log


def test_the_death_of_the_driver_fails_running_calls_and_is_got_over(make_chain: Any, until: Any) -> None:
    chain = make_chain(speed=1.0).start()  # a new driver does not believe a move that no real motor could have made
    arrival = chain.call("set_focus", 1, 90_000)
    other = chain.call("set_focus", 2, -90_000)
    until(lambda: chain.moving(1) and chain.moving(2))
    (driver,) = chain.processes("-m indi_multifocus")
    os.kill(driver, signal.SIGKILL)
    assert (arrival(), other()) == (1, 1)
    # indiserver starts it again, and focusd connects it again.
    until(lambda: chain.status()["status"] == 1)
    with chain.proxy() as focusd:
        assert focusd.initialize() == 8
        assert focusd.stop_channel(1) == 0
        assert focusd.set_focus(1, 10) == 0


def test_the_death_of_its_server_fails_running_calls_and_is_got_over(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 90_000)
    until(lambda: chain.moving(1))
    for server in chain.processes("indiserver -p"):
        os.kill(server, signal.SIGKILL)
    assert arrival() == 1
    until(lambda: chain.status()["status"] == 0)
    until(lambda: chain.status()["status"] == 1)
    assert "indiserver ended (SIGKILL); it is started again" in chain.log
    with chain.proxy() as focusd:
        assert focusd.stop_channel(1) == 0
        assert focusd.set_focus(2, 10) == 0


def test_an_indiserver_that_is_away_during_an_upgrade_is_started_when_it_is_back(
    make_chain: Any, until: Any, tmp_path: Any
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("indiserver", "sh"):
        (programs / name).symlink_to(shutil.which(name))
    chain = make_chain().start(environment={"PATH": str(programs)})
    (programs / "indiserver").rename(programs / "away")
    for server in chain.processes("indiserver -p"):
        os.kill(server, signal.SIGKILL)
    until(lambda: "indiserver is not installed any more" in chain.log)
    until(lambda: "cannot be reached" in chain.log)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 7
        assert focusd.stop_channel(1) == 7
    (programs / "away").rename(programs / "indiserver")
    until(lambda: chain.status()["status"] == 1)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0
    assert chain.log.count("indiserver is not installed any more") == 1
    assert chain.log.count("cannot be reached") == 1


def test_a_joined_server_that_restarts_is_joined_again(make_chain: Any, until: Any) -> None:
    chain = make_chain()
    server = chain.start_server()
    chain.start()
    server.kill()
    server.wait()
    until(lambda: chain.status()["status"] == 0)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 7
        assert focusd.initialize() == 1
    until(lambda: "cannot be reached" in chain.log)
    chain.start_server()
    until(lambda: chain.status()["status"] == 1)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0
    assert f"connected to the INDI server localhost:{chain.indi_port}" in chain.log


def test_servers_that_come_and_go_leave_nothing_open(make_chain: Any, until: Any) -> None:
    chain = make_chain()
    server = chain.start_server()
    chain.start()

    def open_now() -> int:
        """But for the history's files, which are opened when there is an entry."""
        found = 0
        for entry in Path(f"/proc/{chain.daemon.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed just now
                found += "focus.sqlite" not in os.readlink(entry)
        return found

    def restart() -> None:
        nonlocal server
        server.kill()
        server.wait()
        until(lambda: chain.status()["status"] == 0)
        server = chain.start_server()
        until(lambda: chain.status()["status"] == 1)

    restart()
    before = open_now()
    for _ in range(4):
        restart()
    until(lambda: open_now() <= before + 1)  # a Pyro client may be on its way out


def test_what_was_shut_down_stays_disconnected_when_the_driver_restarts(chain: Any, until: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.shutdown() == 0
    (driver,) = chain.processes("-m indi_multifocus")
    os.kill(driver, signal.SIGKILL)
    until(lambda: chain.processes("-m indi_multifocus") not in ([], [driver]))
    indi = chain.observe()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 7
        assert focusd.initialize() == 0
    indi.close()


def test_what_another_client_disconnects_stays_disconnected(chain: Any, until: Any) -> None:
    indi = chain.observe()
    indi.new("MultiFocus 2", "CONNECTION", {"DISCONNECT": "On"})
    until(lambda: chain.status()["status_2"] == 0)
    # Only a restart of the driver would tempt focusd to connect it again.
    (driver,) = chain.processes("-m indi_multifocus")
    os.kill(driver, signal.SIGKILL)
    until(lambda: chain.status()["status_1"] == 0)
    until(lambda: chain.status()["status_1"] == 1)
    assert chain.status()["status_2"] == 0
    with chain.proxy() as focusd:
        assert focusd.initialize() == 0
    indi.close()


def test_shutdown_makes_a_blocked_call_return(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 90_000)
    until(lambda: chain.moving(1))
    with chain.proxy() as focusd:
        assert focusd.shutdown() == 0
    assert arrival() == 1


def test_a_pulled_cable_fails_the_running_call_and_plugging_it_in_is_enough(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 90_000)
    until(lambda: chain.moving(1))
    chain.simulator.pull_cable()
    assert arrival() == 1
    status = until(lambda: chain.status()["status_1"] == 0 and chain.status())
    assert "current_steps_1" not in status
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 5) == 7
        assert focusd.stop_channel(2) == 1  # kept for when the controller is back
        assert focusd.initialize() == 1
        assert "ERROR focusd@test: MultiFocus 1: lost the controller" in chain.log
        chain.simulator.replug_cable()
        until(lambda: chain.status()["status"] == 1)
        assert focusd.initialize() == 8
        assert focusd.stop_channel(1) == 0
        assert focusd.set_focus(2, 60) == 0


def test_a_motor_that_stalls_fails_the_call(chain: Any, until: Any) -> None:
    chain.simulator.stall(1)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 500) == 1
    until(lambda: "stalled" in chain.log)
    chain.simulator.stall(1, False)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 500) == 0


def test_a_move_that_takes_too_long_fails(make_chain: Any) -> None:
    chain = make_chain(speed=1.0, move_timeout=0.5).start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 5000) == 1
        assert focusd.report_status()["status_1"] == 1
    assert chain.simulator.standstill(1) is not None


def test_refused_moves_of_another_client_do_not_end_ours(chain: Any, until: Any) -> None:
    indi = chain.observe()
    arrival = chain.call("set_focus", 1, 3000)
    until(lambda: chain.moving(1))
    for _ in range(20):
        indi.move(1, 99_999_999)
    assert arrival() == 0
    assert chain.simulator.position(1) == 3000
    indi.close()


def test_another_clients_new_target_is_waited_for(chain: Any, until: Any) -> None:
    indi = chain.observe()
    arrival = chain.call("set_focus", 1, 90_000)
    until(lambda: chain.moving(1))
    indi.move(1, -200)
    assert arrival() == 0
    assert chain.simulator.position(1) == -200
    indi.close()


def test_a_client_that_comes_and_goes_does_not_end_our_move(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 6000)
    until(lambda: chain.moving(1))
    for _ in range(3):
        chain.observe().close()  # has the driver define everything again
    assert arrival() == 0
    assert chain.simulator.position(1) == 6000
