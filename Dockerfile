# ReCoSeg in a container, for CPUs or NVIDIA GPUs. Research software, not a medical device.
#
#   docker build --target cpu --tag recoseg:cpu .
#   docker build --target cuda --tag recoseg:cuda .
#   docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/data" recoseg:cpu segment STUDY -o RESULTS
#   docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/data" --gpus all --shm-size 2g \
#       recoseg:cuda segment STUDIES -o RESULTS
#
# Everything is downloaded while the image is built; at run time nothing needs a network, nor root.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /project
COPY pyproject.toml README.md LICENSE ./
COPY custom custom
COPY bundles bundles
COPY recoseg recoseg
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 HOME=/tmp
RUN useradd --uid 1000 --no-create-home recoseg
WORKDIR /requirements
COPY requirements.txt requirements.lock requirements-no-deps.txt requirements-no-deps.lock ./

# PyTorch's own wheel for CPUs is a tenth as large as that of PyPI; its hash is not in the lock file.
FROM base AS cpu
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu --requirement requirements.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-no-deps.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl
USER 1000
WORKDIR /data
ENTRYPOINT ["recoseg"]
CMD ["--help"]

# PyPI's wheels of PyTorch bring CUDA's libraries; the machine needs NVIDIA's driver and container toolkit.
FROM base AS cuda
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock \
    && pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-no-deps.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl
USER 1000
WORKDIR /data
ENTRYPOINT ["recoseg"]
CMD ["--help"]
