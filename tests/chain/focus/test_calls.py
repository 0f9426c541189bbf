# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pyro interface, called as existing clients call it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from indi_multifocus import __version__


@pytest.fixture
def chain(chain_of_module: Any) -> Any:
    """One for all tests here, each of which finds it as it was at first."""
    return chain_of_module.begin_anew()


def test_set_focus_returns_when_the_motor_has_arrived(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 700) == 0
        assert chain.simulator.position(1) == 700
        assert focusd.report_status()["current_steps_1"] == 700


def test_offset_counts_from_the_last_target(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.set_focus(2, 300) == 0
        assert focusd.set_focus(2, -500, offset=True) == 0
        assert focusd.set_focus(2, 50, True) == 0
    assert chain.simulator.position(2) == -150


def test_a_move_to_where_it_stands_succeeds_at_once(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 0) == 0
        assert focusd.set_focus(1, 0, offset=True) == 0


def test_report_status_has_the_entries_of_both_generations_of_clients(make_chain: Any) -> None:
    probes = {
        "rasa1": {"label": "RASA1", "address": "28EFE61E0B0000B9", "channel": 1},
        "tube": {"label": "Tube", "address": "28EFE61E0B0000BA"},
        "gone": {"label": "Not there", "address": "28EFE61E0B0000FF"},
    }
    chain = make_chain(temperature_probes=probes).start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(2, -120) == 0
        assert focusd.temperature_labels() == {"rasa1": "RASA1", "tube": "Tube", "gone": "Not there"}
    status = chain.status()
    while not all(status["temperature"][probe] for probe in ("rasa1", "tube")):
        status = chain.status()
    date = datetime.datetime.strptime(status.pop("date"), "%Y-%m-%dT%H:%M:%SZ")
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    assert abs((now - date).total_seconds()) < 10
    assert status == {
        "software_version": __version__,
        "status": 1,
        "fans_available": True,
        "fans_enabled": False,
        "temperature": {"rasa1": 21.0625, "tube": -3.5, "gone": None},
        "status_1": 1,
        "target_steps_1": 0,
        "current_steps_1": 0,
        "moving_1": False,
        "status_2": 1,
        "target_steps_2": -120,
        "current_steps_2": -120,
        "moving_2": False,
    }


def test_not_connected_there_are_no_positions_to_report(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_focusd()
    status = chain.status()
    assert set(status) == {"date", "software_version", "status", "status_1", "status_2"}
    assert (status["status"], status["status_1"], status["status_2"]) == (0, 0, 0)


def test_a_moving_channel_reports_where_it_goes(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 100_000)
    status = until(lambda: chain.moving(1) and chain.status())
    assert (status["status_1"], status["moving_1"], status["target_steps_1"]) == (2, True, 100_000)
    assert (status["status_2"], status["moving_2"]) == (1, False)
    with chain.proxy() as focusd:
        assert focusd.stop_channel(1) == 0
    arrival()


def test_nothing_can_be_done_before_initialize(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 100) == 7
        assert focusd.stop_channel(1) == 7
        assert focusd.reset_home_position(1) == 7
        assert focusd.enable_fans(True) == 7
        assert focusd.shutdown() == 7


def test_initialize_connects_once_and_shutdown_disconnects_once(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.initialize() == 8
        assert focusd.shutdown() == 0
        assert focusd.shutdown() == 7
        assert focusd.set_focus(1, 100) == 7
        assert focusd.initialize() == 0
        assert focusd.set_focus(1, 100) == 0


def test_initialize_connects_what_another_client_has_not(make_chain: Any, until: Any) -> None:
    chain = make_chain()
    chain.start_focusd()
    indi = chain.observe()
    indi.new("MultiFocus 2", "CONNECTION", {"CONNECT": "On"})
    until(lambda: chain.status()["status_2"] == 1)
    status = chain.status()
    assert (status["status"], status["status_1"]) == (0, 0)
    assert "current_steps_2" in status
    assert "current_steps_1" not in status
    with chain.proxy() as focusd:
        assert focusd.initialize() == 0
    assert chain.status()["status"] == 1
    indi.close()


def test_the_two_channels_move_at_the_same_time(chain: Any, until: Any) -> None:
    first = chain.call("set_focus", 1, 3000)
    second = chain.call("set_focus", 2, -3000)
    until(lambda: chain.moving(1) and chain.moving(2))
    assert (first(), second()) == (0, 0)
    assert (chain.simulator.position(1), chain.simulator.position(2)) == (3000, -3000)


def test_a_second_move_of_a_moving_channel_is_blocked(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 100_000)
    until(lambda: chain.moving(1))
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 5) == 2
        assert focusd.set_focus(1, 5, offset=True) == 2
        assert focusd.reset_home_position(1) == 2
        assert focusd.set_focus(2, 5) == 0
        assert focusd.stop_channel(1) == 0
    arrival()
    assert chain.simulator.target(1) != 5


def test_of_many_moves_at_the_same_instant_one_runs(chain: Any) -> None:
    results = [chain.call("set_focus", 1, 2000 + n) for n in range(8)]
    codes = sorted(result() for result in results)
    assert codes.count(0) >= 1
    assert set(codes) <= {0, 2}
    moves = [line for _, line in chain.simulator.received if line.startswith(b"1+")]
    assert len(moves) == codes.count(0)


def test_a_move_of_another_indi_client_blocks_and_is_seen(chain: Any, until: Any) -> None:
    indi = chain.observe()
    indi.move(1, 80_000)
    until(lambda: chain.moving(1) and chain.status()["target_steps_1"] == 80_000)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 100) == 2
        assert focusd.stop_channel(1) == 0
    assert chain.simulator.standstill(1) is not None
    indi.close()


def test_a_move_of_ours_is_seen_by_another_indi_client(chain: Any) -> None:
    indi = chain.observe()
    with chain.proxy() as focusd:
        assert focusd.set_focus(2, 1234) == 0
    target = indi.wait(
        lambda: [answer for answer in indi.received if (answer.name, answer.state) == ("FOCUS_TARGET", "Busy")],
        "the target",
    )
    assert (target[0].device, target[0].number()) == ("MultiFocus 2", 1234)
    indi.wait(lambda: indi.position(2) == 1234, "the position")
    indi.wait_state("MultiFocus 2", "ABS_FOCUS_POSITION", "Ok")
    indi.close()


def test_stop_makes_the_blocked_call_return_and_leaves_the_motor_standing(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 100_000)
    until(lambda: chain.moving(1))
    with chain.proxy() as focusd:
        assert focusd.stop_channel(1) == 0
        assert chain.simulator.standstill(1) is not None
        status = focusd.report_status()
        assert status["status_1"] == 1
        assert status["target_steps_1"] == status["current_steps_1"] == chain.simulator.position(1)
        # A stopped move has always counted as done: its target is where it stopped.
        assert arrival() == 0
        assert focusd.set_focus(1, 100) == 0


def test_a_stop_right_after_the_move_began_is_not_lost(chain: Any) -> None:
    for _ in range(5):
        arrival = chain.call("set_focus", 1, 500_000)
        with chain.proxy() as focusd:
            while chain.simulator.target(1) != 500_000:
                pass
            assert focusd.stop_channel(1) == 0
        assert arrival() == 0
        assert chain.simulator.standstill(1) is not None


def test_stop_of_a_standing_channel_succeeds(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.stop_channel(2) == 0


def test_many_stops_at_the_same_time_all_succeed(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 100_000)
    until(lambda: chain.moving(1))
    assert [stop() for stop in [chain.call("stop_channel", 1) for _ in range(6)]] == [0] * 6
    arrival()


def test_zero_sets_the_zero_of_the_controller_itself(chain: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 400) == 0
        assert focusd.reset_home_position(1) == 0
        status = focusd.report_status()
        assert (status["current_steps_1"], status["target_steps_1"]) == (0, 0)
    assert chain.simulator.position(1) == 0
    assert b"1Z" in [line for _, line in chain.simulator.received]


def test_fans_are_switched_and_reported(chain: Any) -> None:
    with chain.proxy() as focusd:
        for enabled in (True, False, False, True, True):
            assert focusd.enable_fans(enabled) == 0
            assert focusd.report_status()["fans_enabled"] is enabled
            assert chain.simulator.fans is enabled


def test_fans_are_switched_while_a_channel_moves(chain: Any, until: Any) -> None:
    arrival = chain.call("set_focus", 1, 100_000)
    until(lambda: chain.moving(1))
    with chain.proxy() as focusd:
        for enabled in (True, False, True):
            assert focusd.enable_fans(enabled) == 0
            assert focusd.report_status()["fans_enabled"] is enabled
        focusd.stop_channel(1)
    arrival()


def test_the_first_generation_has_no_fans_and_counts_to_seven_digits(make_chain: Any) -> None:
    chain = make_chain(generation=1, speed=300_000.0).start()
    with chain.proxy() as focusd:
        assert focusd.enable_fans(True) == 1
        assert focusd.report_status()["fans_enabled"] is False
        assert focusd.set_focus(1, -1_234_567) == 0
        assert focusd.set_focus(2, 9_999_999) == 0
        status = focusd.report_status()
        assert (status["current_steps_1"], status["current_steps_2"]) == (-1_234_567, 9_999_999)
        assert focusd.set_focus(1, 10_000_000) == 6
        assert focusd.set_focus(2, 1, offset=True) == 6
        assert focusd.stop_channel(1) == 0
        assert focusd.reset_home_position(1) == 0
        assert focusd.shutdown() == 0


def test_the_second_generation_counts_to_six_digits(make_chain: Any) -> None:
    chain = make_chain(speed=100_000.0).start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 1_000_000) == 6
        assert focusd.set_focus(1, -999_999) == 0
        assert focusd.set_focus(1, -1, offset=True) == 6
    assert chain.simulator.position(1) == -999_999


def test_configured_limits_are_kept(make_chain: Any) -> None:
    chain = make_chain(limits={"1": [-100, 500]}).start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 501) == 6
        assert focusd.set_focus(1, -101) == 6
        assert focusd.set_focus(1, -100) == 0
        assert focusd.set_focus(1, 601, offset=True) == 6
        assert focusd.set_focus(1, 600, offset=True) == 0
        assert focusd.set_focus(2, 501) == 0
    assert "ERROR" not in chain.log


def test_configured_limits_are_kept_where_the_driver_does_not_know_them(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_server()
    chain.write_config(limits={"2": [-100, 500]})
    chain.start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(2, 501) == 6
        assert focusd.set_focus(2, -101) == 6
        assert focusd.set_focus(2, 500) == 0
        assert focusd.set_focus(1, 501) == 0


def test_a_driver_on_another_controller_than_the_configurations_is_named(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_server()
    chain.write_config(serial_port="/dev/other")
    chain.start()
    assert f"uses {chain.simulator.port}, not /dev/other" in chain.log


def test_channels_have_their_labels_in_indi(make_chain: Any) -> None:
    chain = make_chain(labels={"2": "RASA zwei"}).start()
    indi = chain.observe()
    with chain.proxy() as focusd:
        assert focusd.set_focus(2, 77) == 0
    indi.next_set("RASA zwei", "ABS_FOCUS_POSITION", 0)
    indi.close()


@pytest.mark.parametrize("channel", [0, 3, -1, "1", 1.0, True, None, [1], {"a": 1}, 10**9, 10**30])
def test_what_is_no_channel_is_refused(chain: Any, channel: Any) -> None:
    with chain.proxy() as focusd:
        assert focusd.set_focus(channel, 100) == 4
        assert focusd.stop_channel(channel) == 4
        assert focusd.reset_home_position(channel) == 4
    assert chain.simulator.target(1) == chain.simulator.target(2) == 0


def test_what_is_no_position_is_refused_and_moves_nothing(chain: Any) -> None:
    with chain.proxy() as focusd:
        for steps in ("1", 1.5, 100.0, True, None, [1], b"1", 1j):
            with pytest.raises(TypeError, match="a whole number is expected"):
                focusd.set_focus(1, steps)
        with pytest.raises(TypeError, match=r"^steps: '1{38}…: a whole number is expected$"):
            focusd.set_focus(1, "1" * 1000)
        for steps in (10**9, -(10**9), 10**40, -(10**4000)):
            assert focusd.set_focus(1, steps) == 6
            assert focusd.set_focus(1, steps, offset=True) == 6
        for offset in ("False", 2, 1.0, None):
            with pytest.raises(TypeError, match="True or False is expected"):
                focusd.set_focus(1, 100, offset)
        for enabled in ("on", None, 3):
            with pytest.raises(TypeError, match="True or False is expected"):
                focusd.enable_fans(enabled)
        for arguments, named in (((), {}), ((1,), {}), ((1, 2, True, 4), {}), ((1,), {"position": 3})):
            with pytest.raises(TypeError):
                focusd.set_focus(*arguments, **named)
        with pytest.raises(TypeError):
            focusd.stop_channel()
    assert not [line for _, line in chain.simulator.received if line[:2] in (b"1+", b"1-")]


def test_numbers_of_too_many_digits_are_an_error_for_the_caller_alone(chain: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever the serializer makes of it
        with chain.proxy() as focusd:
            focusd.set_focus(1, 10**200_000)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0


def test_nothing_but_the_interface_can_be_called(chain: Any) -> None:
    with chain.proxy() as focusd:
        focusd._pyroBind()
        assert set(focusd._pyroMethods) == {
            "report_status",
            "report_details",
            "report_history",
            "temperature_labels",
            "set_focus",
            "reset_home_position",
            "stop_channel",
            "enable_fans",
            "initialize",
            "shutdown",
        }
        assert not focusd._pyroAttrs
        with pytest.raises(AttributeError):
            focusd._is_allowed(("127.0.0.1", 1))
