"""One of the processes that ``accelerate launch`` starts: it carries out the order it is given."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

from training.device import is_writer, rank
from training.launch_order import Order, carry_out
from workbench.console import console, publishing
from workbench.errors import EXIT_USER_ERROR, UserError
from workbench.inference.base_models import has_gpu
from workbench.inference.hub import hub_offline
from workbench.store import write_json

TOLD = "\x1etold "
"""How a line begins that is for people; all others go to the log."""
ERRORS = "error-*.json"
NEWS = "PERSONA_NEWS"
"""Environment variable: where progress is published for ``persona watch``."""


class _Told(io.StringIO):
    """Standard output, each line marked as one for people."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            sys.stdout.write(f"{TOLD}{line}\n")
        sys.stdout.flush()
        return len(text)


def main(order_file: str) -> int:
    """Carry out an order; a user's mistake is written beside it, one line each."""
    from accelerate import PartialState

    threading.Thread(target=_leave_with_the_command, daemon=True).start()
    path = Path(order_file)
    order = Order.model_validate_json(path.read_text(encoding="utf-8"))
    if is_writer():
        console.file = _Told()
    else:
        console.quiet = True
    try:
        with hub_offline():
            PartialState(cpu=not has_gpu())
            if is_writer() and (news := os.environ.get(NEWS)):
                with publishing(Path(news)):
                    carry_out(order)
            else:
                carry_out(order)
    except UserError as error:
        write_json(path.with_name(ERRORS.replace("*", str(rank()))), error.lines())
        return EXIT_USER_ERROR
    return 0


def _leave_with_the_command() -> None:
    """End when the command that started all processes has ended, however it did.

    It holds the other end of standard input, which the system closes even after a kill -9.
    """
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
