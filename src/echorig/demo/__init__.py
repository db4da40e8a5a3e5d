"""A demonstration on one computer: sessions with rigs in processes of their own, measured and shown.

``python -m echorig.demo`` or ``echorig demo``; the live table needs ``pip install 'echorig[cli]'``.
"""
