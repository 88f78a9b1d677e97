"""The one exception that is the user's to mend."""


class UserError(ValueError):
    """A wrong setting or input: one line that names the value and what is allowed."""
