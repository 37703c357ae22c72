# The image of the chart: both programs, linked statically, and nothing else. A node's C library may be older than the
# builder's, and this image has none.
#
#   buildah build --tag REGISTRY/containerd-shim-hyperlight:0.1.0 .
#
# BUILDER is a Debian, bookworm or newer, with cargo; what else the build needs it takes from Debian.
ARG BUILDER=rust:1.95-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN make static

FROM scratch
LABEL org.opencontainers.image.title="containerd-shim-hyperlight" \
      org.opencontainers.image.description="Installs a containerd shim that runs WebAssembly in micro-VMs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/static/ /
# The installer, which changes the node, is root by the pod's security context; nothing else needs to be.
USER 65534:65534
ENTRYPOINT ["/hyperlight"]
