"""`./run request`: ask the running stack for recommendations, and show them as a table."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from launcher.commands.running import running_stack
from launcher.errors import LauncherError

_WAIT_S = 5


def request(
    user_id: Annotated[str | None, typer.Argument(help="Whose stored history to use, for example user_1.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, such as 10,20,30.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many items.", min=1)] = 10,
) -> None:
    """Ask for recommendations and print them as a table."""
    if user_id is None and history is None:
        raise LauncherError("Say for whom: ./run request user_1, or on which history: ./run request --history 10,20,30")
    body: dict[str, Any] = {"k": k}
    if user_id is not None:
        body["user_id"] = user_id
    if history is not None:
        body["history"] = [item.strip() for item in history.split(",") if item.strip()]
    stack = running_stack()
    from launcher.api_client import ApiClient  # Here, because it would slow every command down.

    with ApiClient(stack.state.ports.api, timeout_s=_WAIT_S + 10) as api:
        answer = api.recommend(body, _WAIT_S)
        result = answer.get("result")
        if answer["status"] == "PENDING" or result is None:
            error = answer.get("error")
            raise LauncherError(
                f"Request {answer['request_id']} is {answer['status']}"
                + (f": {error['title']}: {error['detail']}" if error else f" after {_WAIT_S} seconds")
                + "; see ./run status and ./run logs worker-1"
            )
        if answer["status"] != "COMPLETED":
            error = answer.get("error") or result.get("error") or {}
            raise LauncherError(f"Request {answer['request_id']} is {answer['status']}: {error.get('detail', '')}")
        items = api.items([item["item_id"] for item in result["items"]])
    _print(Console(), result, items)


def _print(console: Console, result: dict[str, Any], items: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("item", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("genres", overflow="fold")
    table.add_column("score", justify="right")
    for rank, item in enumerate(result["items"], start=1):
        known = items.get(item["item_id"], {})
        genres = ", ".join(known.get("genres", []))
        table.add_row(str(rank), item["item_id"], known.get("title", "-"), genres, f"{item['score']:.3f}")
    console.print(table)
    source = result.get("source") or "-"
    reason = f" ({result['reason']})" if result.get("reason") else ""
    timings = result.get("timings_ms") or {}
    console.print(f"model {result.get('model_version') or '-'}, source {source}{reason}", highlight=False)
    console.print(
        f"history {result.get('history_length', 0)} items, {result.get('unknown_items', 0)} of them unknown",
        highlight=False,
    )
    console.print("ms: " + ", ".join(f"{stage} {value:.1f}" for stage, value in timings.items()), highlight=False)
