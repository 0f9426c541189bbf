# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the folder below a prefix in which this Python looks for packages: `python3 sitelib.py /usr/local`.

For `make install`. Debian's and Fedora's Pythons have folders of their own, which only they know. Where none is below
the prefix, it is the one that a Python built for that prefix would have.
"""

import site
import sys

within = sys.argv[1].rstrip("/") + "/lib/"
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
print(next((path for path in site.getsitepackages() if path.startswith(within)), f"{within}{version}/site-packages"))
