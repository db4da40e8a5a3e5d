"""The program under test: a session of a lab."""

from echorig import ServicesError, sync


def run_session(rigs: sync.Services, reference: str) -> list[str]:
    """Start and stop all rigs; return the names of those that recorded."""
    rigs.init()
    try:
        answers = rigs.start(reference)
    except ServicesError:
        rigs.stop(immediately=True)
        raise
    rigs.stop()
    return list(answers)
