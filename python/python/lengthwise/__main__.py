"""The command ``lengthwise``, as ``lengthwise`` and as ``python -m lengthwise``."""

import signal
import sys

from lengthwise._lengthwise import run_command


def main() -> None:
    """Run the command on the words that the process was started with, and exit as it does."""
    # Python would only take note of Ctrl-C until the command returns.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(run_command(["lengthwise", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
