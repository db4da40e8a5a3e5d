"""Who may talk to a program, what is signed, and what may be shown."""
