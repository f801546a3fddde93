"""How the scripts of this suite end."""

import signal
import sys


def guarded(run):
    """Ends the program with `run`'s exit status; 2: it could not run to the end. SIGTERM takes the same way out, so that
    what was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        status = run()
    except KeyboardInterrupt:
        status = 2
    except SystemExit as reason:
        if not isinstance(reason.code, str):
            raise
        print(reason.code, file=sys.stderr)
        status = 2
    sys.exit(status)
