"""Models: what was made and how good it is, which one is live, who serves it, and making another one live."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

import pandas as pd
import streamlit as st

from recstream.ops.clock import utc_now
from ui import resources
from ui.api_client import ApiError, Decision, Model
from ui.changeover import Changeover, show_changeover, workers_now
from ui.formatting import age, count, plain
from ui.model_charts import metric_name, quality_by_version
from ui.training_reports import training_report

_LOOK_SECONDS = 1
_LISTED_SECONDS = 2
_ROW, _HEADER, _MOST_ROWS = 35, 38, 12
_VERSION_WIDTH = 265
_CHOSEN = "model-chosen"
_TROUBLE = "model-trouble"
_PROMOTED = "model-promoted"
_COMPARED = ("ndcg@10", "recall@10", "mrr@10")
_MEASURES = ("ndcg", "recall", "mrr")
_REPORT_HEIGHT = 700


@st.cache_data(ttl=_LISTED_SECONDS, show_spinner=False)
def _listed() -> list[Model]:
    return resources.api().models()


def page() -> None:
    """Draw the page."""
    st.subheader("Models", anchor=False)
    try:
        models = _listed()
    except ApiError as error:
        st.error(f"The models cannot be listed: {plain(str(error))}", icon=":material/error:")
        st.fragment(_await_api, run_every=_LISTED_SECONDS)()
        return
    trouble = st.session_state.get(_TROUBLE)
    if trouble is not None:
        st.error(plain(trouble), icon=":material/error:")
    live = next((model for model in models if model.status == "live"), None)
    _show_live(live, models)
    st.markdown("**Who serves what**")
    st.fragment(_watch_workers, run_every=_LOOK_SECONDS)(live.version if live else None, _known(models))
    if not models:
        st.info("No model has been made yet. `./run train` trains one from the interactions and puts it into service.")
        return
    st.markdown("**Versions**")
    _show_versions(models)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _show_quality(models)
    with right:
        _show_chosen(models, live)


def _await_api() -> None:
    """Draw the page again as soon as the API answers."""
    try:
        _listed()
    except ApiError:
        return
    st.rerun(scope="app")


def _known(models: Sequence[Model]) -> list[tuple[str, str]]:
    return [(model.version, model.status) for model in models]


def _watch_workers(live: str | None, known: list[tuple[str, str]]) -> None:
    try:
        now = _known(_listed())
        workers = workers_now()
    except ApiError as error:
        st.warning(f"What the workers serve is not known: {plain(str(error))}", icon=":material/cloud_off:")
        return
    if now != known:
        # Trained or promoted from elsewhere: the rest of the page is drawn anew too.
        st.rerun(scope="app")
    show_changeover(live, workers)
    promoted = st.session_state.get(_PROMOTED)
    if promoted is not None and promoted == live:
        change = Changeover.towards(promoted, workers)
        if change.serving and not change.waiting and not change.rejected:
            del st.session_state[_PROMOTED]
            st.toast(f"Every worker serves {plain(promoted)}.", icon=":material/check_circle:")


def _show_live(live: Model | None, models: Sequence[Model]) -> None:
    trained = [model for model in models if model.kind == "sasrec"]
    figures: list[tuple[str, str, str]] = [
        ("Live", _kind(live.kind) if live else "none", "What every worker shall serve."),
        ("Made", age(live.created_at, utc_now()) if live else "-", "Age of the live version."),
    ]
    if live is not None:
        ndcg, theirs = live.metrics.get("ndcg@10"), live.metrics.get("popularity_ndcg@10")
        if ndcg is not None:
            figures.append(("NDCG@10", f"{ndcg:.4f}", "Of the live version, on each user's last item, fully ranked."))
        if ndcg is not None and theirs:
            figures.append(("Beside popularity", f"{ndcg / theirs:.2f} times", f"Popularity has {theirs:.4f}."))
    figures.append(("Trained versions", str(len(trained)), "Recorded, and ready to be made live."))
    with st.container(horizontal=True, gap="small", key="figures"):
        for name, value, explanation in figures:
            st.metric(name, value, help=explanation, border=True)
    if live is not None:
        st.markdown(
            f"Live version `{live.version}`, announcement {live.generation}, since {_moment(live.promoted_at)}."
        )


def _show_versions(models: Sequence[Model]) -> None:
    now = utc_now()
    shown = [name for name in _COMPARED if any(name in model.metrics for model in models)]
    rows = [
        (
            model.version,
            model.status,
            _kind(model.kind),
            age(model.created_at, now),
            *(model.metrics.get(name) for name in shown),
            _ratio(model),
            model.promoted_at,
        )
        for model in models
    ]
    names = [metric_name(name) for name in shown]
    table = pd.DataFrame(rows, columns=["Version", "Status", "Kind", "Made", *names, "To popularity", "Last made live"])
    if not shown:
        table = table.drop(columns="To popularity")

    def choose() -> None:
        chosen = st.session_state["models"].selection.rows
        if chosen and chosen[0] < len(models):
            st.session_state[_CHOSEN] = models[chosen[0]].version

    st.dataframe(
        table,
        hide_index=True,
        height=_HEADER + _ROW * min(len(table), _MOST_ROWS),
        key="models",
        on_select=choose,
        selection_mode="single-row",
        column_config={
            "Version": st.column_config.TextColumn(width=_VERSION_WIDTH),
            "To popularity": st.column_config.NumberColumn(
                format="%.2f x", help="NDCG@10 divided by that of popularity on the same test"
            ),
            "Last made live": st.column_config.DatetimeColumn(
                format="D MMM YYYY, HH:mm:ss", timezone=st.context.timezone
            ),
            **{name: st.column_config.NumberColumn(format="%.4f") for name in names},
        },
        placeholder="-",
        alt="Model versions, newest first, with their metrics.",
    )


def _show_quality(models: Sequence[Model]) -> None:
    offered = [name for name in _COMPARED if any(name in model.metrics for model in models)]
    if not offered:
        st.info("Only trained versions have metrics. `./run train` trains one.")
        return
    metric = st.segmented_control(
        "Quality by version", offered, default=offered[0], required=True, format_func=metric_name, key="model-metric"
    )
    measured = [model for model in models if metric in model.metrics]
    st.altair_chart(
        quality_by_version(measured, metric or offered[0]),
        alt=f"{metric_name(metric or offered[0])} of {count(len(measured), 'version')}, beside popularity's.",
    )


def _show_chosen(models: Sequence[Model], live: Model | None) -> None:
    versions = [model.version for model in models]
    if st.session_state.get(_CHOSEN) not in versions:
        st.session_state.pop(_CHOSEN, None)
    version = st.selectbox("Look at a version", versions, key=_CHOSEN)
    model = next(model for model in models if model.version == version)
    if live is not None and model.version == live.version:
        st.badge("live", icon=":material/check_circle:", color="green")
    elif model.status == "pruned":
        st.caption("Its files were removed to make room, so it cannot be made live again.")
    else:
        _offer_promotion(model, live)
    _show_metrics(model)


def _offer_promotion(model: Model, live: Model | None) -> None:
    back = _is_rollback(model, live)
    pressed = st.button(
        "Roll back to this version" if back else "Promote this version",
        icon=":material/history:" if back else ":material/rocket_launch:",
        type="primary",
        key="promote",
    )
    if pressed:
        st.session_state.pop(_TROUBLE, None)
        title = "Roll back the model" if back else "Promote a model"
        st.dialog(title, width="medium")(_confirm)(model, live)


def _show_metrics(model: Model) -> None:
    rows = [
        (
            metric_name(name),
            f"{value:.4f}",
            f"{theirs:.4f}" if (theirs := model.metrics.get(f"popularity_{name}")) is not None else "",
        )
        for name, value in sorted(model.metrics.items(), key=lambda entry: _order(entry[0]))
        if "@" in name and not name.startswith("popularity_")
    ]
    if rows:
        st.table(pd.DataFrame(rows, columns=["Metric", "SASRec", "Popularity"]).set_index("Metric"))
    about = [f"{_kind(model.kind)}, made {_moment(model.created_at)}"]
    if "epochs" in model.metrics:
        about.append(count(round(model.metrics["epochs"]), "epoch"))
    if "seconds" in model.metrics:
        about.append(f"trained in {model.metrics['seconds']:,.0f} s")
    if model.generation is None:
        about.append("never live")
    st.caption(", ".join(about) + ".")
    _show_decision(model.decision)
    _show_report(model)


def _show_decision(decision: Decision | None) -> None:
    if decision is None:
        return
    if decision.reason:
        st.markdown(f"**Decision:** {plain(decision.reason)}.")
    if decision.against:
        st.table(
            pd.DataFrame(
                [
                    (
                        plain(each.opponent),
                        f"{each.candidate_ndcg:.4f}",
                        f"{each.opponent_ndcg:.4f}",
                        f"{each.low:+.4f} to {each.high:+.4f}",
                    )
                    for each in decision.against
                ],
                columns=["Compared with", "Its NDCG@10", "The other's", "Difference, 95%"],
            ).set_index("Compared with")
        )


def _show_report(model: Model) -> None:
    report = training_report(model.version)
    if report is None:
        return
    with st.container(horizontal=True):
        if st.button("Training curves", icon=":material/show_chart:", key="report"):
            st.dialog(f"Training of {model.version}", width="large")(_draw_report)(report)
        st.download_button(
            "Report",
            report,
            file_name=f"{model.version}.html",
            mime="text/html",
            icon=":material/download:",
            on_click="ignore",
            key="report-file",
        )


def _draw_report(report: str) -> None:
    st.caption("Loss and validation NDCG@10 by epoch, the data, and how the model compares.")
    # As a data address it has an origin of its own: whatever it holds cannot act on this page.
    st.iframe(f"data:text/html;base64,{b64encode(report.encode()).decode()}", height=_REPORT_HEIGHT, alt="The report.")


def _confirm(model: Model, live: Model | None) -> None:
    st.markdown(f"Make `{model.version}` live?")
    if live is not None:
        st.markdown(f"It takes the place of `{live.version}`.")
    if model.status == "refused" and model.decision is not None:
        st.warning(f"The trainer refused it: {plain(model.decision.reason)}.", icon=":material/gpp_maybe:")
    comparison = _comparison(model, live)
    if comparison is not None:
        st.markdown(comparison)
    st.markdown(
        "- Every worker verifies its files and changes over between two batches.\n"
        "- Requests are answered all the while; each answer names its version.\n"
        "- A worker that refuses it goes on with what it serves, and says why.\n"
        "- It can be undone: the version that was live stays recorded."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", key="promote-cancel"):
            st.rerun()
        if st.button("Make it live", type="primary", key="promote-confirm"):
            try:
                resources.api().promote(model.version)
            except ApiError as error:
                st.session_state[_TROUBLE] = f"The model was not made live: {error}"
            else:
                st.session_state[_PROMOTED] = model.version
            _listed.clear()
            workers_now.clear()
            st.rerun()


def _comparison(model: Model, live: Model | None) -> str | None:
    ours, theirs = model.metrics.get("ndcg@10"), live.metrics.get("ndcg@10") if live is not None else None
    if ours is None:
        return "It was not trained: it recommends what is popular, to everyone the same." if live else None
    if theirs is None:
        return f"Its NDCG@10 is **{ours:.4f}**."
    verdict = "higher than" if ours > theirs else "lower than" if ours < theirs else "the same as"
    return (
        f"Its NDCG@10 is **{ours:.4f}**, {verdict} the live version's {theirs:.4f}. Each was measured on its own data."
    )


def _order(name: str) -> tuple[bool, int, str, int]:
    measure, _, cutoff = name.partition("@")
    known = measure in _MEASURES
    return not known, _MEASURES.index(measure) if known else 0, measure, int(cutoff) if cutoff.isdecimal() else 0


def _is_rollback(model: Model, live: Model | None) -> bool:
    """Tell whether it was live before; what never was is promoted."""
    return live is not None and model.generation is not None and model.created_at < live.created_at


def _kind(kind: str) -> str:
    return {"sasrec": "SASRec", "popularity": "Popularity"}.get(kind, kind)


def _ratio(model: Model) -> float | None:
    ours, theirs = model.metrics.get("ndcg@10"), model.metrics.get("popularity_ndcg@10")
    return ours / theirs if ours is not None and theirs else None


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%-d %B %Y, %H:%M UTC") if moment is not None else "-"
