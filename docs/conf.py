"""How the documentation is built: ``sphinx-build -W -n -b html docs docs/_build/html``.

1. The reference comes from the docstrings; the package must be importable, compiled modules included.
2. Nothing is fetched while building: names of other projects stay plain text, and are listed below.
"""

import echorig

project = 'echorig'
author = 'The echorig developers'
copyright = author
release = version = echorig.__version__

extensions = ['sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'myst_parser']
exclude_patterns = ['_build', 'examples']
default_role = 'code'
html_theme = 'furo'
html_title = f'echorig {release}'
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings say the types, in the words of the field
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False

nitpicky = True
nitpick_ignore_regex = [
    # Types of the standard library and of ONE, whose documentation is not at hand while building.
    (r'py:.*', r'(asyncio|collections|concurrent|enum|ipaddress|logging|one|os|ssl)\..*'),
    (r'py:.*', r'bool|bytes|dict|float|int|list|object|str|tuple|Any|Exception|BaseException'),
    (r'py:.*', r'(Attribute|Connection|ConnectionRefused|OS|Runtime|Timeout|Type|Value)Error'),
    # What blocking use has from the docstrings of the asynchronous classes, and its inner parts.
    (r'py:class', r'Tuning|Background|ConnectionEvent|PresenceChange|Progress|SafeLog'),
    # Words of numpy docstrings that are no classes.
    (r'py:class', r"(callable|coroutine|iterable|mapping|optional|path|sequence|\{?'\w+'\}?|str to \w+)"),
]
