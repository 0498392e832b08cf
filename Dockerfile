# syntax=docker/dockerfile:1
# The edit server. `docker build .` makes it for CPUs; for NVIDIA GPUs:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t editkit:cuda .
# torch's wheels bring CUDA's libraries along; the host gives the driver (NVIDIA Container Toolkit).
FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
# torch first and alone, as pinned: resolved together with the rest, another build of it could come.
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY editkit ./editkit
COPY methods ./methods
COPY backbones ./backbones
COPY demos ./demos
COPY configs ./configs
RUN pip install -c constraints.txt '.[serve,demo,gguf,control]'

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 1000 editkit \
    && install -d -o editkit /data /data/adapters /data/out /home/editkit/.cache/huggingface
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /data
EXPOSE 8000
# The first start may fetch weights, for which the period at the start leaves an hour.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1h --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# SIGTERM reaches the server itself, which then finishes what it holds.
ENTRYPOINT ["editkit"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--adapters", "/data/adapters"]
