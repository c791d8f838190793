"""`python -m recstream.ops.probe URL`: exit status 0 where it answers 200. The health check of containers.

Runs every few seconds in each of them, so it imports next to nothing.
"""

import http.client
import sys

_SECONDS = 4


def answers(url: str) -> bool:
    """Tell whether a GET of `http://host:port/path` is answered with 200 in time."""
    scheme, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    if scheme != "http" or not address:
        raise ValueError(f"{url} is not http://host:port/path.")
    connection = http.client.HTTPConnection(address, timeout=_SECONDS)
    try:
        connection.request("GET", slash + path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and answers(sys.argv[1]) else 1)
