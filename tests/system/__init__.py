"""Real programs on a bad network, stopped, killed and started anew, and an oracle that reads what they noted.

1. `rig` and `main` are the programs; what they have in common is `program`. `faulty_link` is the network between them.
2. Each program writes each thing that happens to it into a file of its own, at once: `notes`.
3. `driver` starts the programs, stops and kills them by chance, and ends them.
4. `facts` reads the files, and `oracle` says what in them must not be.
"""
