# The image of every process of ours: code location, web UI, daemon, exporter. Runs as a user without rights.
FROM python:3.11.11-slim-bookworm

RUN useradd --uid 10001 --create-home --home-dir /var/lib/marketpipe --shell /usr/sbin/nologin marketpipe
WORKDIR /opt/marketpipe

COPY requirements-server.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements-server.txt

COPY pyproject.toml README.md LICENSE ./
COPY marketpipe_assets marketpipe_assets
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

# The volume takes owner and contents of this folder when it is made. What is relative to marketpipe.yaml lies in it.
ENV DAGSTER_HOME=/var/lib/marketpipe/dagster PYTHONUNBUFFERED=1
RUN mkdir -p "$DAGSTER_HOME" && chown -R marketpipe:marketpipe /var/lib/marketpipe
USER marketpipe
WORKDIR /var/lib/marketpipe
VOLUME /var/lib/marketpipe
