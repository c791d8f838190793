"""One training in two processes, as `torchrun` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from tests.trainer.test_trainer_process import CHECKOUT, environment, insert_circles, models

PROGRAM = """
import json, os, sys
import numpy as np
from rich.console import Console
from trainer.fit import fit, help_to_fit
from trainer.interactions import Interactions
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings

settings = TrainerSettings(
    epochs=4, dropout=0, d_model=16, threads=1, batch_tokens=150, learning_rate=0.01, negatives=int(sys.argv[2])
)
if int(os.environ.get("RANK", "0")) > 0:
    help_to_fit(settings)
else:
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 30, 80)
    codes = np.concatenate([(np.arange(length) + user) % 25 + 1 for user, length in enumerate(lengths)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    data = Interactions(tuple(map(str, range(25))), codes.astype(np.int32), offsets, None)
    fitted = fit(data, settings, Reporter(Console(stderr=True)))
    figures = {
        "losses": [epoch.loss for epoch in fitted.training.epochs],
        "validations": [epoch.ndcg for epoch in fitted.training.epochs],
        "test": fitted.model.metrics["ndcg@10"],
    }
    open(sys.argv[1], "w").write(json.dumps(figures))
"""

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*command: str, environ: dict[str, str] | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **(environ or {})}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    figures = {}
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        run(*launcher, str(program), str(tmp_path / name), "0")
        figures[name] = json.loads((tmp_path / name).read_text())
    one, two = figures["one"], figures["two"]
    assert len(two["losses"]) == 4
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["validations"] == pytest.approx(one["validations"], abs=0.02)
    assert one["losses"][-1] < one["losses"][0] / 1.2


@pytest.mark.integration
def test_the_trainer_itself_runs_so(database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path) -> None:
    insert_circles(database, users=60, length=15)
    output = run(*TORCHRUN, "-m", "trainer", "--epochs", "2", environ=environment(database, kafka, tmp_path))
    assert "in 2 processes" in output
    assert output.count("Announced sasrec-") == 1
    assert [status for _, status, _ in models(database)] == ["live"]
