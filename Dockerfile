# The HTTP service. Build: docker build -t placewright .    Run: docker run -p 127.0.0.1:8000:8000 -v placewright:/var/lib/placewright placewright
# With Ray, for the nodes of a Ray cluster and their dispatchers: docker build --build-arg LOCK=requirements-ray.lock -t placewright-ray .
# The command line is in it too: docker run -i placewright solve - < examples/tiny.json
FROM python:3.11-slim AS build
ARG LOCK=requirements-service.lock
WORKDIR /src
COPY requirements-build.lock ${LOCK} ./
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.lock \
 && python -m venv /opt/placewright \
 && /opt/placewright/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r ${LOCK}
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY solver solver
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/placewright/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 && /opt/placewright/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/placewright placewright \
 && install -d -o placewright -g placewright /var/lib/placewright /var/cache/placewright
COPY --from=build /opt/placewright /opt/placewright
COPY examples/demo.json /opt/placewright/share/demo.json
ENV PATH=/opt/placewright/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/placewright \
    PLACEWRIGHT_DATABASE_URL=sqlite:////var/lib/placewright/jobs.sqlite3
USER placewright
# Compiles all kernels into the cache, and proves that the image can solve. Another processor compiles its own when the
# service starts.
RUN python -c 'from solver.warm_up import warm_up; warm_up()' \
 && placewright solve /opt/placewright/share/demo.json --time-limit 20
WORKDIR /var/lib/placewright
VOLUME /var/lib/placewright
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=4).read()"]
ENTRYPOINT ["placewright"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
