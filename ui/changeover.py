"""Which worker serves what: a table that goes on by itself, and the way to all of them serving the live model."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from recstream.messages.control import WorkerState
from ui import resources
from ui.api_client import Worker
from ui.formatting import count, plain

_LOOK_SECONDS = 1
_ROW, _HEADER = 35, 38


@dataclass(frozen=True, slots=True)
class Changeover:
    """How far the workers that are alive have come to the live version; `rejected` are those that refused it."""

    live: str
    serving: list[Worker]
    rejected: list[Worker]
    waiting: list[Worker]

    @classmethod
    def towards(cls, live: str, workers: Sequence[Worker]) -> "Changeover":
        """Sort the workers that are alive by what they have made of `live`."""
        alive = [worker for worker in workers if worker.alive]
        serving = [worker for worker in alive if worker.model_version == live]
        others = [worker for worker in alive if worker.model_version != live]
        rejected = [
            worker
            for worker in others
            if worker.state == WorkerState.REJECTED and worker.announced_version in (live, None)
        ]
        return cls(live, serving, rejected, [worker for worker in others if worker not in rejected])

    @property
    def alive(self) -> int:
        """Return how many workers run."""
        return len(self.serving) + len(self.rejected) + len(self.waiting)

    def sentence(self) -> str:
        """Return where it is, in Markdown."""
        version = f"`{self.live}`"
        if not self.alive:
            return f"No worker is running; {version} is served once one runs."
        if self.waiting:
            return f"Changing over: {len(self.serving)} of {count(self.alive, 'worker')} serve {version}."
        if self.rejected:
            return f"{len(self.serving)} of {count(self.alive, 'worker')} serve {version}; the others refused it."
        if self.alive == 1:
            return f"The one worker that runs serves {version}."
        return f"All {count(self.alive, 'worker')} serve {version}."


@st.cache_data(ttl=_LOOK_SECONDS, show_spinner=False)
def workers_now() -> list[Worker]:
    """Return what the workers say of themselves, for all browsers together. Raises ApiError."""
    return resources.api().workers()


def show_changeover(live: str | None, workers: Sequence[Worker]) -> None:
    """Show how far the workers are, and each of them."""
    if live is not None:
        change = Changeover.towards(live, workers)
        st.progress(len(change.serving) / change.alive if change.alive else 0.0, text=change.sentence())
        for worker in change.rejected:
            st.error(
                f"**{plain(worker.worker_id)}** refused `{live}`: {plain(worker.detail or 'no reason was given')} "
                + (
                    f"It goes on serving `{worker.model_version}`."
                    if worker.model_version is not None
                    else "It serves nothing."
                ),
                icon=":material/gpp_bad:",
            )
    show_workers(workers)


def show_workers(workers: Sequence[Worker]) -> None:
    """Show each worker with its state."""
    if not workers:
        st.info("No worker has reported within the last hour. `./run up` starts some, `./run worker` one more.")
        return
    table = pd.DataFrame(
        [
            (
                worker.worker_id,
                worker.state if worker.alive else "silent",
                worker.model_version or "nothing yet",
                worker.reported_at,
                worker.detail or "",
            )
            for worker in workers
        ],
        columns=["Worker", "State", "Serves", "Last word", "Detail"],
    )
    if not table["Detail"].any():
        table = table.drop(columns="Detail")
    st.dataframe(
        table,
        hide_index=True,
        height=_HEADER + _ROW * min(len(table), 10),
        key="workers",
        column_config={
            "Worker": st.column_config.TextColumn(width="small"),
            "State": st.column_config.TextColumn(
                width="small", help="loaded, rejected or starting; silent where it has not reported lately"
            ),
            "Serves": st.column_config.TextColumn(width="medium", help="The version that answers its requests now"),
            "Last word": st.column_config.DatetimeColumn(
                format="HH:mm:ss", timezone=st.context.timezone, width="small"
            ),
        },
        alt="Workers, each with the model version that it serves.",
    )
