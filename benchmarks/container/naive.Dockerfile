# The course in a container, as one writes it at first: what ../../Dockerfile is compared with by tools/container.py
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
RUN apt-get update && apt-get install -y build-essential git python3-dev
COPY . /app
WORKDIR /app
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/course && \
    /opt/course/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[lab]"
CMD ["/opt/course/bin/fsdl-course", "lab", "lessons", "--ip=0.0.0.0", "--no-browser"]
