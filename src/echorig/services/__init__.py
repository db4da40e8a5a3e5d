"""Many rigs at once: fan-out, answers, presence."""
