# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Makefile calls: run, measure, test to destruction and describe the driver. Nothing of it is installed."""
