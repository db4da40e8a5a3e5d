"""A whole session on one computer: rigs as separate processes, told together, measured and shown.

``python -m echorig.demo`` or ``echorig demo``; needs ``pip install 'echorig[demo]'``.
"""
