# asgid in a container: `docker build -t asgid . && docker run -p 8000:8000 -p 127.0.0.1:9464:9464 asgid`.
#
# Without changes the image serves examples/hello.py. For your own image write these lines:
#
#     FROM asgid
#     COPY requirements.txt /app/
#     USER 0
#     RUN pip install --no-cache-dir --requirement /app/requirements.txt
#     USER 10001
#     COPY . /app
#     COPY asgid.toml /etc/asgid.toml
#     RUN asgid check -c /etc/asgid.toml --boot
#
# With the last line a wrong setting or a failed import ends the build, not the roll-out. If the startup of the
# application needs a database, which is missing in a build, add --set app.lifespan=off.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN python -m venv /opt/asgid
WORKDIR /src
# Files that change rarely come first: if only asgid's code changes, the layer of the dependencies is reused.
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY asgid/__init__.py asgid/
RUN /opt/asgid/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .
COPY asgid asgid
RUN /opt/asgid/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall .

FROM python:${PYTHON}-slim
# A number, not a name, so that Kubernetes can check that this is not root (runAsNonRoot). Any other uid works too.
RUN groupadd --gid 10001 asgid \
 && useradd --uid 10001 --gid asgid --no-create-home --home-dir /app --shell /usr/sbin/nologin asgid \
 && install -d -o asgid -g asgid /run/asgid
COPY --from=build /opt/asgid /opt/asgid
ENV PATH=/opt/asgid/bin:$PATH
WORKDIR /app
COPY examples/hello.py /app/

# Metrics and probes listen on all addresses, because requests come from outside the container; publish 9464 only to
# your monitoring. graceful + kill stay below the platform's time between TERM and KILL: 10 s in Docker, 30 in
# Kubernetes. Other defaults fit: workers.count follows the cgroup's CPU quota, and no pid file is written. The log goes
# to stderr, as JSON unless that is a terminal. Access lines go to stdout in the combined format: for JSON set
# format = "json" in [log.access]. Behind a load balancer, set proxy.trusted.
RUN printf '%s\n' \
    '[app]' \
    'target = "hello:application"' \
    'directory = "/app"' \
    '' \
    '[[listen]]' \
    'bind = "0.0.0.0:8000"' \
    '' \
    '[timeouts]' \
    'graceful = "8s"' \
    'kill = "1s"' \
    '' \
    '[metrics]' \
    'bind = "0.0.0.0:9464"' \
    > /etc/asgid.toml

USER 10001:10001
EXPOSE 8000 9464
STOPSIGNAL SIGTERM

# /readyz, not /livez: a container that waits for `healthy` will send requests. http.client, because urllib would use a
# proxy from the environment even for this address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import http.client, sys; probe = http.client.HTTPConnection('127.0.0.1', 9464, timeout=2); probe.request('GET', '/readyz'); sys.exit(probe.getresponse().status != 200)"]

# asgid itself is PID 1: it receives the signals and reaps orphans of its workers, so no init is needed.
ENTRYPOINT ["asgid"]
CMD ["-c", "/etc/asgid.toml"]
