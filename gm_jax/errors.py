"""The exceptions that end a command with one line."""


class UserError(ValueError):
    """A wrong setting or input: one line that names the value and what is allowed."""


class StoppedError(Exception):
    """A signal asked the run to stop, and it did, after saving.

    Attributes:
        signal: its name.
    """

    def __init__(self, says: str, signal: str):
        super().__init__(says)
        self.signal = signal
