"""The folder that child processes have in PYTHONPATH: `sitecustomize` runs when their Python starts."""
