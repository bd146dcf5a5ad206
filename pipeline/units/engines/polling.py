"""A call that blocks until a stage is done, with a look at it every now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.units import work
from pipeline.units.engines.base import POLL_SECONDS, AnyJob, WorkerDied


def run(
    call: Callable[[], None], on_poll: Callable[[], None], job: AnyJob, died: Callable[[], str] = lambda: ""
) -> None:
    """Have `call` made in a thread of its own, and wait for its end.

    Args:
        call: has units of the job done.
        on_poll: called every `POLL_SECONDS`.
        job: whose units they are.
        died: why the call will never come to its end; "" as long as it may.

    Raises:
        WorkerDied: `died` gave a reason, and no unit one of its own.
        Exception: what the first failing unit raised, or else the call itself.
    """
    outcome: list[BaseException | None] = []

    def target() -> None:
        try:
            call()
            outcome.append(None)
        except BaseException as e:
            outcome.append(e)

    thread = threading.Thread(target=target, name="engine", daemon=True)
    thread.start()
    while thread.is_alive() and not died():
        thread.join(POLL_SECONDS)
        on_poll()
    error = (
        outcome[0]
        if outcome
        else WorkerDied(
            f"{died()} (out of memory, or killed); what is done is kept: run the same command again"
        )
    )
    if error is not None:
        # An engine may turn exceptions into text, or end the workers of a job that has failed, which must
        # not hide why it has.
        raise work.first_error(job.corpus.work, job.stage.name) or error
