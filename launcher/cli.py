"""The commands of `./run`."""

import typer

from launcher.commands import checks, down, request, status, tools, up

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Recstream on one machine: real Apache Kafka, real PostgreSQL and every service, without Docker.\n\n"
    "Begin with ./run up, then ./run request user_1. Data lies in .local/, models in checkpoints/.",
)


def _examples(*commands: str) -> str:
    """Return an epilog. Its first character keeps the lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


app.command(
    epilog=_examples(
        "./run up",
        "./run up --detach --workers 2",
        "./run up --port-offset 100    (API on port 8100, and so on)",
    )
)(up.up)
app.command(epilog=_examples("./run down"))(down.down)
app.command(epilog=_examples("./run status", "./run status --json"))(status.status)
app.command(epilog=_examples("./run logs api", "./run logs worker-1 --follow"))(status.logs)
app.command(epilog=_examples("./run request user_1", "./run request --history 10,20,30 --k 5"))(request.request)
app.command(context_settings=tools.PASS_ON)(tools.train)
app.command(context_settings=tools.PASS_ON)(tools.evaluate)
app.command(context_settings=tools.PASS_ON)(tools.seed)
app.command(context_settings=tools.PASS_ON)(tools.dlq)
app.command(epilog=_examples("./run worker"))(tools.worker)
app.command(
    context_settings={**tools.PASS_ON, "help_option_names": ["-h", "--help"]},
    epilog=_examples("./run marts", "./run marts run --full-refresh", "./run marts source freshness"),
)(tools.marts)
app.command(context_settings=tools.PASS_ON)(tools.psql)
app.command(epilog=_examples("eval \"$(./run env)\" && psql -c 'SELECT count(*) FROM interactions'"))(tools.env)
app.command(epilog=_examples("./run down && ./run reset", "./run reset --yes"))(down.reset)
app.command(
    context_settings={**tools.PASS_ON, "help_option_names": ["--help"]},
    epilog=_examples("./run test", "./run test -x tests/unit -k outbox"),
)(checks.test)
