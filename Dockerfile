# syntax=docker/dockerfile:1
# One target for each service: docker build --target api . (docker compose does so by itself.)
#
#   python -- services -+- api, db_writer, seeder, admin
#             |         +- torch -- worker, trainer
#             +- dbt    +- page --- ui
#
# Packages come first, one layer for each lock, and the code last: a change of code makes no package anew, and worker and
# trainer share the one layer that holds torch. Everything is a wheel, so no stage needs a compiler.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS python
# The account that every container runs as. Another one will do (compose's RECSTREAM_UID): nothing below needs its name,
# and what programs want to keep in a home folder goes to /tmp.
RUN groupadd --gid 1000 recstream \
    && useradd --uid 1000 --gid recstream --no-create-home --home-dir /tmp --shell /usr/sbin/nologin recstream \
    && python -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=recstream \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1
WORKDIR /app


FROM python AS services
# Each installation sees its own lock alone: a change of another one does not repeat it.
# numpy's tests are a fifth of it and nothing imports them.
RUN --mount=type=bind,source=requirements/services.lock,target=/services.lock \
    --mount=type=cache,id=recstream-pip,target=/tmp/.cache/pip,sharing=locked \
    pip --python /opt/venv/bin/python install --disable-pip-version-check --root-user-action=ignore \
        --require-hashes -r /services.lock \
    && find /opt/venv -path '*/numpy/*' -type d -name tests -prune -exec rm -r {} +
ENV PYTHONPATH=/app


FROM services AS page
RUN --mount=type=bind,source=requirements/ui.lock,target=/ui.lock \
    --mount=type=cache,id=recstream-pip,target=/tmp/.cache/pip,sharing=locked \
    pip --python /opt/venv/bin/python install --disable-pip-version-check --root-user-action=ignore \
        --require-hashes -r /ui.lock \
    && find /opt/venv -path '*/pandas/*' -type d -name tests -prune -exec rm -r {} +


FROM services AS torch
# Empty: the locked build with its CUDA parts (5-6 GB). Else a package index with another build of the same version, such
# as one for CPUs only, whose files have hashes of their own.
ARG TORCH_INDEX=
RUN --mount=type=bind,source=requirements/torch.lock,target=/torch.lock \
    install() { \
        pip --python /opt/venv/bin/python install --disable-pip-version-check --root-user-action=ignore \
            --no-cache-dir "$@"; \
    }; \
    if [ -z "$TORCH_INDEX" ]; then \
        install --require-hashes -r /torch.lock; \
    else \
        install --index-url "$TORCH_INDEX" "torch==$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' /torch.lock)"; \
    fi
# glibc returns freed memory to the system at once by default; keeping it makes inference 1.5-1.9 times as fast.
ENV MALLOC_TRIM_THRESHOLD_=4294967296 \
    MALLOC_MMAP_THRESHOLD_=1073741824


# The code of all services, readable for every account whatever the checkout's umask was, and compiled, because nothing
# can be written where it runs. Services take their parts from here.
FROM python AS code
COPY recstream recstream
COPY admin admin
COPY api api
COPY db_writer db_writer
COPY dbt dbt
COPY seeder seeder
COPY trainer trainer
COPY ui ui
COPY worker worker
RUN chmod -R u=rwX,go=rX . && python -m compileall -q --invalidation-mode unchecked-hash .


FROM services AS admin
COPY --from=code /app/recstream recstream
COPY --from=code /app/admin admin
USER 1000:1000
ENTRYPOINT ["python", "-m", "admin"]


FROM python AS dbt
RUN --mount=type=bind,source=requirements/dbt.lock,target=/dbt.lock \
    --mount=type=cache,id=recstream-pip,target=/tmp/.cache/pip,sharing=locked \
    pip --python /opt/venv/bin/python install --disable-pip-version-check --root-user-action=ignore \
        --require-hashes -r /dbt.lock
WORKDIR /app/dbt
COPY --from=code /app/recstream/ops/probe.py /opt/probe.py
COPY --from=code /app/dbt .
# The project's folder is not written to, by `docker compose exec dbt dbt run` either, which takes its turn (dbt/bin/dbt).
ENV PATH=/app/dbt/bin:$PATH \
    DBT_TARGET_PATH=/tmp/target \
    DBT_LOG_PATH=/tmp/logs \
    MARTS_METRICS_HOST=0.0.0.0
EXPOSE 9071
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-S", "/opt/probe.py", "http://127.0.0.1:9071/health/ready"]
USER 1000:1000
ENTRYPOINT ["python", "schedule.py"]


FROM services AS seeder
COPY --from=code /app/recstream recstream
COPY --from=code /app/seeder seeder
ENV CHECKPOINTS_DIR=/checkpoints \
    SEEDER_REJECTS_DIR=/tmp/rejects
USER 1000:1000
ENTRYPOINT ["python", "-m", "seeder"]


FROM services AS api
COPY --from=code /app/recstream recstream
COPY --from=code /app/api api
ENV API_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-S", "-m", "recstream.ops.probe", "http://127.0.0.1:8000/health/ready"]
USER 1000:1000
ENTRYPOINT ["python", "-m", "api"]


FROM services AS db_writer
COPY --from=code /app/recstream recstream
COPY --from=code /app/db_writer db_writer
ENV DB_WRITER_METRICS_HOST=0.0.0.0
EXPOSE 9101
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-S", "-m", "recstream.ops.probe", "http://127.0.0.1:9101/health/ready"]
USER 1000:1000
ENTRYPOINT ["python", "-m", "db_writer"]


FROM page AS ui
COPY --from=code /app/recstream recstream
COPY --from=code /app/ui ui
ENV CHECKPOINTS_DIR=/checkpoints \
    UI_HOST=0.0.0.0
EXPOSE 8501
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-S", "-m", "recstream.ops.probe", "http://127.0.0.1:8501/_stcore/health"]
USER 1000:1000
ENTRYPOINT ["python", "-m", "ui"]


FROM torch AS worker
COPY --from=code /app/recstream recstream
COPY --from=code /app/worker worker
# One thread: workers scale by processes.
ENV CHECKPOINTS_DIR=/checkpoints \
    OMP_NUM_THREADS=1 \
    WORKER_METRICS_HOST=0.0.0.0
EXPOSE 9111
# Ready is a worker that has a model and its share of the requests.
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-S", "-m", "recstream.ops.probe", "http://127.0.0.1:9111/health/ready"]
USER 1000:1000
ENTRYPOINT ["python", "-m", "worker"]


FROM torch AS trainer
COPY --from=code /app/recstream recstream
COPY --from=code /app/trainer trainer
ENV CHECKPOINTS_DIR=/checkpoints
USER 1000:1000
ENTRYPOINT ["python", "-m", "trainer"]
