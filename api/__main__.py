"""Runs the API: `python -m api`."""

import gc
import socket
import sys

import uvicorn

from api.app import create_app
from api.services import make_services
from api.settings import ApiSettings
from api.streams import Streams
from recstream.db.settings import PostgresSettings
from recstream.kafka.queues import GroupSettings
from recstream.kafka.redrive import RedriveSettings
from recstream.kafka.settings import KafkaSettings
from recstream.ops.logs import LogSettings, configure_logging
from recstream.ops.shutdown import stop_on_signal
from recstream.ops.tracing import TracingSettings, start_tracing


class _Server(uvicorn.Server):
    """Ends event streams before it waits for what is being answered: they alone would last until the time-out."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving, once told to."""
        self._streams.stop()
        await super().shutdown(sockets)


def main() -> int:
    """Serve until told to stop; return the exit status."""
    settings = ApiSettings.load()
    configure_logging("api", LogSettings.load())
    tracer = start_tracing("api", TracingSettings.load(), instance=f"api-{socket.gethostname()}-{settings.port}")
    services = make_services(
        settings, KafkaSettings.load(), GroupSettings.load(), PostgresSettings.load(), RedriveSettings.load(), tracer
    )
    app = create_app(services)
    gc.freeze()  # what start-up made lives as long as the process; the collector need not walk it again
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = _Server(config, services.streams)
    # uvicorn stops on a signal and then raises it once more, for the handler that was there before: ours lets the
    # process end with its own exit status.
    with stop_on_signal():
        server.run()
        tracer.close()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
