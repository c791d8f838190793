"""The inference worker: consumes requests, ranks with the announced model, publishes results."""
