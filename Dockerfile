# asgid in a container: `docker build -t asgid . && docker run -p 8000:8000 -p 127.0.0.1:9464:9464 asgid`.
#
# As it is, the image serves examples/hello.py. An image of your own is these lines:
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
# The last line makes a wrong setting or an import that fails end the build, not the roll-out. If the startup of an
# application needs a database, which a build does not have, check it with --set app.lifespan=off.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN python -m venv /opt/asgid
WORKDIR /src
# What changes seldom comes first: the dependencies' layer stays while only asgid's code changes.
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY asgid/__init__.py asgid/
RUN /opt/asgid/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .
COPY asgid asgid
RUN /opt/asgid/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall .

FROM python:${PYTHON}-slim
# The number, not the name, lets Kubernetes see that this is not root (runAsNonRoot). Any other uid works as well.
RUN groupadd --gid 10001 asgid \
 && useradd --uid 10001 --gid asgid --no-create-home --home-dir /app --shell /usr/sbin/nologin asgid \
 && install -d -o asgid -g asgid /run/asgid
COPY --from=build /opt/asgid /opt/asgid
ENV PATH=/opt/asgid/bin:$PATH
WORKDIR /app
COPY examples/hello.py /app/

# Metrics and probes listen on all addresses, for they are asked from outside; publish 9464 to those who may see it.
# graceful + kill stay below what the platform waits between TERM and KILL: 10 s in Docker; Kubernetes gives 30.
# Not set, because the defaults fit: workers.count follows the cgroup's CPU quota, and no pid file is written. The log
# goes to stderr, as JSON unless that is a terminal. Access lines go to stdout in the combined format: for JSON set
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

# Ready, not merely alive: what waits for `healthy` wants to send requests. http.client, because urllib would take a
# proxy from the environment even for this address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import http.client, sys; probe = http.client.HTTPConnection('127.0.0.1', 9464, timeout=2); probe.request('GET', '/readyz'); sys.exit(probe.getresponse().status != 200)"]

# asgid itself is PID 1: it gets the signals, and it reaps what its workers leave behind, so no init is needed.
ENTRYPOINT ["asgid"]
CMD ["-c", "/etc/asgid.toml"]
