"""Real programs on a bad network, which are stopped, killed and restarted, and an oracle that checks their event logs.

1. `rig` and `main` are the programs, `program` is their base. `faulty_link` is the network between them.
2. Each program writes its events into a file of its own: `event_log`.
3. `driver` starts the programs, stops and kills them at random, and ends them.
4. `history` combines the files, and `oracle` checks the rules.
"""
