"""Memory of a large training: 20 million interactions with a million items, for some hundred steps of the defaults.

python -P bench/training_memory.py [--steps 300]
"""

import argparse
import contextlib
import resource
import time

import numpy as np
import torch

from recstream.model.net import Sasrec
from trainer.defaults import batch_tokens, learning_rate, model_config, negatives
from trainer.interactions import Interactions
from trainer.settings import TrainerSettings
from trainer.split import leave_one_out
from trainer.training import Bounds, Recipe, train


class _Enough(Exception):
    pass


def main() -> None:
    """Generate, train, and print steps, seconds and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=20_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    lengths = generator.geometric(1 / 40, options.interactions // 40) + 2
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    codes = (generator.random(offsets[-1], dtype=np.float32) ** 3 * options.items).astype(np.int32) + 1
    np.minimum(codes, options.items, out=codes)
    times = np.arange(len(codes), dtype=np.int64)
    data = Interactions(tuple(map(str, range(options.items))), codes, offsets, times)
    settings = TrainerSettings()
    split = leave_one_out(data)
    config = model_config(settings, split.test.inputs, data.n_items)
    network = Sasrec(config)
    seconds: list[float] = []
    started = time.monotonic()

    def count(done: int, _total: int) -> None:
        seconds.append(time.monotonic() - started)
        if done >= options.steps:
            raise _Enough

    recipe = Recipe(
        batch_tokens=batch_tokens(settings, split.train),
        learning_rate=learning_rate(settings, split.train),
        negatives=negatives(settings, data.n_items),
        seed=1,
    )
    with contextlib.suppress(_Enough):
        train(network, split.train, lambda: 0.0, bounds=Bounds(1, 1e9, 1), recipe=recipe, on_step=count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(codes):,} interactions, {data.n_items:,} items, length {config.max_length}, "
        f"{recipe.batch_tokens:,} items a batch, {recipe.negatives:,} negatives: {len(seconds)} steps in "
        f"{seconds[-1]:.0f} s on {torch.get_num_threads()} threads, {peak:.1f} GiB at most"
    )


if __name__ == "__main__":
    main()
