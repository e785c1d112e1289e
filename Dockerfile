# An image of the registry. BASE can be any Debian image with Python 3.11 or newer.
ARG BASE=docker.io/library/python:3.13.14-slim-bookworm@sha256:9d7f287598e1a5a978c015ee176d8216435aaf335ed69ac3c38dd1bbb10e8d64

FROM ${BASE} AS build
WORKDIR /source
COPY deploy/release/build.txt deploy/release/
RUN python3 -m venv /build && \
    /build/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes --requirement deploy/release/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY deploy/systemd deploy/systemd
COPY deploy/release deploy/release
# The release that hosts install too, but for this Python and machine only.
RUN /build/bin/python deploy/release/build.py --here --out /release && tar -C /release -xf /release/*.tar
# Without pip, because nothing is installed later.
RUN python3 -m venv --without-pip /opt/quilt-registry && \
    /build/bin/pip --python /opt/quilt-registry/bin/python3 install --no-cache-dir --no-index \
        --find-links /release/wheels --only-binary=:all: --require-hashes --requirement /release/requirements.txt

FROM ${BASE}
COPY --from=build /opt/quilt-registry /opt/quilt-registry
ENV PATH=/opt/quilt-registry/bin:/usr/local/bin:/usr/bin:/bin QUILT_HOME=/var/lib/quilt-registry
# Directory for objects if there is no bucket. Mount a volume there.
RUN install --directory --owner=10001 --group=10001 /var/lib/quilt-registry
WORKDIR /var/lib/quilt-registry
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "from http.client import HTTPConnection as To; c = To('127.0.0.1', 5000, timeout=4); c.request('GET', '/healthcheck'); assert c.getresponse().read() == b'ok'"]
ENTRYPOINT ["quilt-registry"]
CMD ["serve", "--host", "0.0.0.0"]
