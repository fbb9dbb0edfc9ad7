# One static binary in an image with nothing else: no shell, no package manager, no root.
#
#   docker build -t evergate/evergate:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 -t evergate/evergate:0.1.0 .     # several machines
#
# A list of what is inside:  cargo install cargo-cyclonedx && cargo cyclonedx --format json -p evergate
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc=4:* libc6-dev=2.* make=4.* ca-certificates=20* \
    && rm -rf /var/lib/apt/lists/*
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY . .
# The platform's own target: buildx runs this stage once for each.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" -p evergate \
    && install -D "target/$target/release/evergate" /out/evergate

FROM scratch
LABEL org.opencontainers.image.title="Evergate" \
      org.opencontainers.image.description="Server-Sent Events that lose nothing without saying so" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/evergate /evergate
USER 65532:65532
EXPOSE 8080 8081 8082
ENTRYPOINT ["/evergate"]
CMD ["edge"]
