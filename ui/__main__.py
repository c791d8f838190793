"""Runs the page: `python -m ui`."""

import sys

import uvicorn

from recstream.kafka.settings import KafkaSettings
from recstream.ops.logs import LogSettings, configure_logging
from recstream.ops.shutdown import stop_on_signal
from ui.server import create_app
from ui.settings import UiSettings


def main() -> int:
    """Serve until told to stop; return the exit status."""
    settings = UiSettings.load()
    KafkaSettings.load()  # read again by the feed; what is wrong with them is said here
    configure_logging("ui", LogSettings.load())
    config = uvicorn.Config(
        create_app(),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Browsers hold their connections open, and would hold up a stop.
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal that stopped it once more when it is done; here it finds a handler, so the end is a 0.
    with stop_on_signal():
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
