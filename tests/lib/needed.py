# SPDX-License-Identifier: Apache-2.0
"""Modules that Python doesn't come with: imported when a test first uses them. Where one is missing, its tests fail, and
the others can be collected and run."""

import importlib


class needed:  # pylint: disable=invalid-name,too-few-public-methods
    """needed("yaml"): what `import yaml` gives, later."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)
