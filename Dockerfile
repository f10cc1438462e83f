# The course in a container: docker build --tag fsdl-course . && docker run --rm --publish 8888:8888 fsdl-course
# tools/container.py builds the same without a daemon, measures it, and runs a lesson's tests inside.
ARG BASE=python:3.11-slim-bookworm

# What seldom changes comes first: a new lesson builds and ships a few megabytes, not PyTorch again
FROM ${BASE} AS libraries
# With SOURCE_DATE_EPOCH compiled files are known by their source's hash, not by its time
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    SOURCE_DATE_EPOCH=0 PYTHONHASHSEED=0
WORKDIR /build
COPY constraints.txt ./
# Builds for CPUs. With an NVIDIA GPU: --build-arg TORCH_INDEX=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/course && \
    /opt/course/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} setuptools torch
COPY pyproject.toml tools/requirements.py ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 requirements.py lab > requirements.txt && \
    /opt/course/bin/pip install --constraint constraints.txt --requirement requirements.txt

FROM libraries AS course
COPY . .
RUN /opt/course/bin/pip install --no-deps --no-index --no-build-isolation --prefix /own .

FROM ${BASE}
RUN useradd --create-home --uid 1000 --shell /bin/bash learner
COPY --from=libraries /opt/course /opt/course
# What the course itself adds, a few megabytes
COPY --from=course /own /opt/course
ENV PATH=/opt/course/bin:$PATH
USER 1000
WORKDIR /home/learner
EXPOSE 8888
CMD ["fsdl-course", "lab", "lessons", "--ip=0.0.0.0", "--no-browser"]
