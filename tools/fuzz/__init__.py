# SPDX-License-Identifier: GPL-3.0-or-later
"""Coverage-guided fuzzing with atheris: `make fuzz`, or `python -m tools.fuzz [TARGET …]`.

A target is a module in here with `SEEDS`, inputs to begin with; `WORDS`, what such inputs are made of; and
`run(data)`, which raises on whatever must not happen. Targets import nothing of atheris, so that
tests/unit/test_fuzz.py plays the seeds and what was once found in every `make test`.
"""

TARGETS = (
    *("indi_reader", "indi_driver", "serial_protocol", "configuration", "saved_settings", "state_file"),
    *("pyro_calls", "pyro_text"),
)
