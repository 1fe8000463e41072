# One image for the three of ours: Prefect server, MLflow server, worker.
FROM python:3.11.15-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/twinloop && python -m pip install --no-cache-dir uv
COPY pyproject.toml requirements.lock ./
# What is needed to run, in the versions of the lock; a file that does not have the lock's hash is
# refused. The lock's tools for development stay out.
RUN uv pip install --no-cache --compile-bytecode --python /opt/twinloop/bin/python \
      --constraint requirements.lock --requirement pyproject.toml \
      --extra server setuptools
COPY README.md LICENSE ./
COPY src src
COPY tasks tasks
COPY flows flows
RUN uv pip install --no-cache --compile-bytecode --python /opt/twinloop/bin/python \
      --no-deps --no-build-isolation .

FROM python:3.11.15-slim-bookworm
RUN useradd --uid 10001 --create-home twinloop
COPY --from=build /opt/twinloop /opt/twinloop
ENV PATH=/opt/twinloop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    TWINLOOP_HOME=/srv/twinloop \
    PREFECT_HOME=/srv/twinloop/.prefect
WORKDIR /srv/twinloop
# A new volume takes its owner from the folder it is mounted on.
RUN install --directory --owner twinloop --group twinloop . .prefect data data/lake
COPY --chown=twinloop prefect.yaml ./
COPY --chown=twinloop data/workloads data/workloads
USER twinloop
CMD ["twinloop", "--help"]
