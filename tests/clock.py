"""A clock that stands still until a test moves it."""


class Clock:
    """Callable as `time.monotonic`; `now`: seconds."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now
