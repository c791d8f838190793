"""How a command ends that could not do its work."""


class Failed(RuntimeError):
    """What an operator can mend, in a sentence; the process ends with it and exit status 1."""
