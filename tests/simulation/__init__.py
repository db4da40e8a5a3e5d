"""A deterministic simulation of rigs on a bad network: virtual time, seeded faults, no I/O.

1. `schedule` says what a seed means: which programs there are, what they do when, and what the network does wrong.
2. `actors` are the programs: `Exchange` driven as the shell drives it, and legacy peers written down as models.
3. `network` carries packets, and knows of each what it is; `invariants` compares that with what was made of it, by
   `program_model`, which is what a rig can know, and by `tags`, an independent reader of tags.
4. `mutations` are exchanges with one rule broken each, by which the simulation itself is tested.
5. `shrink` finds the smallest part of a failing schedule that still fails; ``python -m simulation`` runs it all.
"""
