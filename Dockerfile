# Build: install the locked requirements and the project into a virtual environment.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/refine
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/refine/bin/pip install --require-hashes -r requirements/run.txt \
 && /opt/refine/bin/pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY bot bot
COPY handlers handlers
COPY templates templates
RUN /opt/refine/bin/pip install --no-deps --no-build-isolation . \
 && /opt/refine/bin/pip uninstall --yes hatchling editables pip

# Run: the environment alone, as a user without rights. Only /data is ever written (the root file system may be read-only).
FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /data refine
COPY --from=build /opt/refine /opt/refine
ENV PATH=/opt/refine/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    REFINE_DATA_DIR=/data REFINE_PORT=8080
USER 10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import os,urllib.request as u; u.urlopen('http://127.0.0.1:'+os.environ['REFINE_PORT']+'/healthz', timeout=4)"]
ENTRYPOINT ["refine"]
CMD ["run"]
