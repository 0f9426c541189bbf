# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented observatory interface on top of the INDI driver: `focusd` (Pyro4) and `focus` (the command line).

focus.py      the command line; a Pyro client, knows nothing of INDI
session.py    its configuration and connections; commands.py, manual.py   what the commands do, and their help
moving.py     a move, from its order to its end; progress.py   the bar meanwhile; show.py   the status for people
watch.py, watch_view.py, terminal.py   the live view: its loop, what it shows, keys; signals.py   sleeping for signals
doctor.py, doctor_port.py, doctor_network.py, finding.py   what usually is wrong
history.py, recorder.py   what happened, in SQLite; history_command.py, plot.py   and how it is shown
streams.py    standard streams that may be closed or full
focusd.py     the Pyro object, who may call it, and the process around it
listener.py   the TCP port: many clients, none of whom keeps another one waiting
literals.py   the text of Pyro's messages, checked before it is parsed
focusers.py   all channels of a configuration: their status, and their connection to the controller
channel.py    one channel: its state, and calls that return when they are done
indi_client.py  the only file that knows pyindi-client
server.py     an INDI server with the driver, where none runs; tether.py ends it with its parent
directory.py  the observatory's names of daemons and machines
hints.py      what to do about a code
codes.py, log.py, net.py, threads.py, clone.py   result codes, messages, TCP connections, threads, running from a clone
"""
