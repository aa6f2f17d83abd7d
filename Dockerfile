# The supervisor as an image: the wheel and its pinned dependencies in a virtual environment, on a slim Python.
#
#   docker build -t aiwm-supervisor .
#   docker run --rm --init -p 127.0.0.1:8641:8641 aiwm-supervisor sandbox --host 0.0.0.0
#
# How to run it for good stands in deploy/README.md, with handlers of your own in examples/derived-image/.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
# What the image can do beside its core: a fast wire, LLM agents, traces, a registry in PostgreSQL. Empty for none.
ARG EXTRAS=fast,llm,otel,postgres
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/aiwm-supervisor
ENV PATH=/opt/aiwm-supervisor/bin:$PATH

# Dependencies first: this layer changes with them alone.
COPY pyproject.toml constraints.txt deploy/requirements.py ./
RUN python requirements.py "${EXTRAS}" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE ./
COPY supervisor supervisor
COPY agents agents
RUN PIP_CONSTRAINT=constraints.txt pip wheel --no-deps --wheel-dir dist . \
    && pip install --no-deps dist/*.whl \
    && pip check

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aiwm-supervisor" \
      org.opencontainers.image.description="Runs a fleet of AIWM chat agents from one process" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Numbers, so that Kubernetes can tell that it is not root and volumes can be given to it. /run/secrets is there for a
# volume of secrets that takes over its owner; engines mount secrets of their own over it.
RUN groupadd --gid 10001 supervisor \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin \
        supervisor \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/aiwm-supervisor /run/secrets

COPY --from=build /opt/aiwm-supervisor /opt/aiwm-supervisor

# PYTHONSAFEPATH: no module is taken from the working directory. The root file system may be read-only: only the
# volume and /tmp are written to.
ENV PATH=/opt/aiwm-supervisor/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SUPERVISOR_REGISTRY_URL=sqlite+aiosqlite:////var/lib/aiwm-supervisor/supervisor.db \
    SUPERVISOR_LOG_FORMAT=json

# Handlers of your own go to /app/agents, mounted or copied; nothing that runs can write there.
WORKDIR /app
USER 10001:10001
VOLUME /var/lib/aiwm-supervisor
EXPOSE 8640
STOPSIGNAL SIGTERM
# Ready means that it can do its work; that a platform is down shows in its figures, not here. Where the container runs
# the sandbox, nobody answers at the first address.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "exec python -m supervisor.health http://127.0.0.1:${SUPERVISOR_ADMIN_PORT:-8640}/readyz http://127.0.0.1:8641/sandbox/info"]
ENTRYPOINT ["supervisor"]
CMD ["run"]
