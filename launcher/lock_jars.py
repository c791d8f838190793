"""Makes Kafka's jar lock files anew: `python -m launcher.lock_jars`. For developers; needs a Maven repository."""

from jgo.env import LockFile
from jgo.maven import MavenContext

from launcher.jars import LOCKS

COORDINATES = {
    "kafka": "org.apache.kafka:kafka_2.13:4.3.1:::compile",
    "logging": "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3:::compile",
}


def main() -> None:
    """Resolve each environment by itself and write its lock file."""
    for name, coordinate in COORDINATES.items():
        context = MavenContext()
        inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
        wanted = [*inputs, *(dependency for dependency in transitive if dependency.scope in ("compile", "runtime"))]
        LockFile.from_resolved_dependencies(wanted, environment_name=name).save(LOCKS / f"{name}.lock.toml")


if __name__ == "__main__":
    main()
