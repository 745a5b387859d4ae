# A worker; Redis or Valkey is another container. The address comes in AWORKER_REDIS__URL, a configuration as
# /app/config/aworker.toml, bars and your own handlers as volumes. `docker stop` drains: allow it 45 s (--stop-timeout 45).
# Nothing is written to the image's own file system: run it with --read-only.

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/aworker
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY aworker aworker
RUN /opt/aworker/bin/pip install --no-cache-dir --constraint constraints.txt ".[trading,web,llm,otel]" \
    && /opt/aworker/bin/pip uninstall --yes pip

FROM python:3.12.12-slim-bookworm
# As process 1: hands signals on, and reaps what handlers' own processes leave behind.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0-1+b3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --uid 10001 aworker
COPY --from=build /opt/aworker /opt/aworker
ENV PATH=/opt/aworker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY config/aworker.toml config/aworker.toml
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=3 CMD ["aworker", "check", "--ready"]
ENTRYPOINT ["tini", "--", "aworker"]
CMD ["run"]
