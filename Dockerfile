# syntax=docker/dockerfile:1
# The image of crawlcache: one program, the C library it loads, and the certificates of the public authorities.
#
#   docker build -t crawlcache .
#   docker run -p 127.0.0.1:8080:8080 -v crawlcache-data:/data crawlcache
#
# It listens on every address of its container, and so refuses to start until it has a token or is told
# CRAWLCACHE_SERVER__INSECURE=true: see docs/deploying.md.

ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS toolchain
RUN cargo install --locked --version 0.1.78 cargo-chef
WORKDIR /source

# What the dependencies are, without our sources: the layer below changes only when they do.
FROM toolchain AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM toolchain AS build
COPY .cargo .cargo
COPY --from=plan /source/recipe.json recipe.json
RUN cargo chef cook --release --locked --bin crawlcache --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --bin crawlcache \
    && strip --strip-all target/release/crawlcache \
    && bash deploy/image/root.sh target/release/crawlcache /image

FROM scratch
LABEL org.opencontainers.image.title="crawlcache" \
      org.opencontainers.image.description="A standalone HTTP cache for web crawlers" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
ENV CRAWLCACHE_SERVER__LISTEN=0.0.0.0:8080 \
    CRAWLCACHE_SERVER__DATA_DIR=/data \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/crawlcache", "healthcheck"]
ENTRYPOINT ["/crawlcache"]
CMD ["serve"]
