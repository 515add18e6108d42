# Whimbrel's server as a container image; docs/operations/deployment.md says how to run it.
#
#   docker build --build-arg WHIMBREL_COMMIT="$(git rev-parse --short=12 HEAD)" --tag whimbrel .
#
# The first stage compiles, the second holds no compiler and no installer.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-bookworm AS build
ARG UV_VERSION=0.13.9
ENV UV_LINK_MODE=copy
WORKDIR /src
# Dependencies first, with the versions and hashes of the lock: a layer that changes rarely.
COPY pyproject.toml uv.lock ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}" \
    && python -m venv --without-pip /opt/whimbrel \
    && /opt/uv/bin/uv export --quiet --frozen --no-dev --extra cjk --extra embeddings --group weights --no-emit-project \
        --output-file /opt/uv/requirements.txt \
    && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --require-hashes \
        --python /opt/whimbrel/bin/python --requirement /opt/uv/requirements.txt
COPY LICENSE README.md CHANGELOG.md ./
COPY native ./native
COPY src ./src
# The repository stays outside, so the commit comes as an argument. Without native kernels there is no image.
ARG WHIMBREL_COMMIT=""
RUN WHIMBREL_COMMIT="${WHIMBREL_COMMIT}" /opt/uv/bin/uv pip install --no-cache --compile-bytecode --no-deps \
        --python /opt/whimbrel/bin/python . \
    && /opt/whimbrel/bin/python -c "from whimbrel import kernel; assert kernel.extension_build()"

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="Whimbrel" \
    org.opencontainers.image.description="An object store with native vector support: Amazon S3 Vectors, self-hosted" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 7676 whimbrel \
    && useradd --uid 7676 --gid 7676 --no-create-home --home-dir /var/lib/whimbrel --shell /usr/sbin/nologin whimbrel \
    && install --directory --owner=7676 --group=7676 --mode=0700 /var/lib/whimbrel
COPY --from=build /opt/whimbrel /opt/whimbrel
# Inside a container loopback reaches nobody, so the server listens everywhere; which addresses of the host lead to it
# is decided by whoever publishes the port.
ENV PATH=/opt/whimbrel/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WHIMBREL_CONFIG_DIR=/var/lib/whimbrel/config \
    WHIMBREL_HOST=0.0.0.0 \
    WHIMBREL_PORT=7676 \
    WHIMBREL_STORE=/var/lib/whimbrel/data
# By number, so that an orchestrator can see that it is not root.
USER 7676:7676
WORKDIR /var/lib/whimbrel
VOLUME ["/var/lib/whimbrel"]
EXPOSE 7676
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["whimbrel", "health"]
ENTRYPOINT ["whimbrel"]
CMD ["serve"]
