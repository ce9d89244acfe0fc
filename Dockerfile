# Workyard: both programs, statically linked against musl, in an image with nothing but certificates.
#
#   docker build -t workyard .
#   docker run --read-only -v ./workyard.toml:/etc/workyard/workyard.toml:ro workyard
#
# Handlers of the type `command` or `worker` need their program in the image: build one FROM this with them, on a
# base that has a shell or Python, by COPY --from=workyard /usr/bin/workyard-consumer.
# Of the build stage only; the tag of its base fixes the release that its packages come from.
FROM rust:1.89-alpine3.22 AS build
# hadolint ignore=DL3018
RUN apk add --no-cache build-base cmake perl
WORKDIR /src
COPY . .
# The caches keep a second build from fetching and building everything again.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked \
      -p workyard-consumer -p workyard-producer --bins \
    && mkdir -p /out/usr/bin /out/etc/workyard /out/var/lib/workyard \
    && cp /target/release/workyard /target/release/workyard-consumer /out/usr/bin/

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/usr/bin/ /usr/bin/
COPY --from=build --chown=65532:65532 /out/var/lib/workyard /var/lib/workyard
USER 65532:65532
WORKDIR /var/lib/workyard
ENV WORKYARD_CONFIG=/etc/workyard/workyard.toml \
    WORKYARD_HTTP=127.0.0.1:9464 \
    WORKYARD_LOG_FORMAT=json
# SIGTERM drains; give it drain_timeout and a little: docker stop -t 45, stop_grace_period, terminationGracePeriodSeconds.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/bin/workyard-consumer", "healthcheck"]
# Signals reach the daemon itself: no shell stands between.
ENTRYPOINT ["/usr/bin/workyard-consumer"]
