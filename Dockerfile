# docker build --tag malaria_diffusion .        the torch that PyPI serves: for NVIDIA GPUs on x86-64, and it runs without one
# docker build --tag malaria_diffusion:cpu --build-arg TORCH_INDEX=ADDRESS .     a third of the size; docs/container.md

# any Debian or Ubuntu with Python 3.11 or newer, one with CUDA and torch for instance
ARG BASE=python:3.11-slim
FROM ${BASE}

# OpenCV, which ultralytics reads images with, links the first two; torch.compile calls the third
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /study
COPY requirements.txt ./
ARG TORCH_INDEX
RUN grep -E "^torch(vision)?==" requirements.txt > /tmp/torch.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement /tmp/torch.txt \
    && pip install --no-cache-dir --requirement requirements.txt

COPY . .
RUN pip install --no-cache-dir --no-deps --editable . \
    && useradd --uid 1000 --home-dir /tmp cells \
    && mkdir --parents data mlruns \
    && chown --recursive cells /study
USER 1000
ENV HOME=/tmp USER=cells MLFLOW_TRACKING_URI=sqlite:////study/data/mlflow.db

VOLUME ["/study/data", "/study/mlruns"]
# kedro viz and MLflow
EXPOSE 4141 5000
ENTRYPOINT ["kedro"]
CMD ["run"]
