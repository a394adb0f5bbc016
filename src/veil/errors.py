"""What a user can mend."""


class InputError(ValueError):
    """What a user can mend: the message names the knob, the allowed range and the value."""
