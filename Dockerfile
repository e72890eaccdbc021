# The worker and its command line. Hashes are checked in the first stage; the second has no build tools and no root.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock .
# All wheels of the lock, verified; from these alone pip then takes what the package itself needs, without the tools.
RUN apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev \
 && pip download --quiet --require-hashes --requirement requirements.lock --dest /wheels \
 && pip install --quiet --no-index --find-links /wheels hatchling hatch-mypyc
COPY pyproject.toml README.md ./
COPY pipeline pipeline
COPY schemas schemas
COPY rating_tables rating_tables
COPY deploy/clickhouse deploy/clickhouse
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=1 pip wheel --quiet --no-build-isolation --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/pstn \
 && /opt/pstn/bin/pip install --quiet --no-index --find-links /wheels pstn-credits
# The embedded warehouse stays out: in a container the warehouse is a server, and this is half of 1.1 GB.
RUN /opt/pstn/bin/pip uninstall --quiet --yes chdb-core pandas

FROM python:3.11.13-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/pstn pstn \
 && install -d -o pstn -g pstn /var/lib/pstn/outbox
COPY --from=build /opt/pstn /opt/pstn
ENV PATH=/opt/pstn/bin:$PATH PYTHONUNBUFFERED=1 PSTN_LOG_FORMAT=json PSTN_WEB_HOST=0.0.0.0
USER pstn
WORKDIR /var/lib/pstn
EXPOSE 6066
STOPSIGNAL SIGTERM
ENTRYPOINT ["pstn"]
CMD ["worker"]
