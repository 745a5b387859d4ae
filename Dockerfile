# The worker alone: Redis or Valkey is another container. Give its address in AWORKER_REDIS__URL, and strategies' bars
# and your own handlers as volumes. `docker stop` drains: allow it 30 s (--stop-timeout 30).
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY aworker aworker
RUN pip install --no-cache-dir --constraint constraints.txt ".[trading,web,llm]" \
    && rm -rf aworker build \
    && useradd --system --no-create-home --uid 10001 aworker
COPY config config

USER aworker
ENTRYPOINT ["aworker"]
CMD ["run"]
