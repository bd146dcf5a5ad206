# Workers of Beam's portable runners (Dataflow, Flink, Spark): memcorpus, and Beam's own boot as what is started.
# Commands are in docs/clusters.md; versions are those of constraints.txt (tests/test_dockerfile.py).
ARG PYTHON=3.11
ARG BEAM=2.77.0

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
# For the decoders (storage/native); without a compiler NumPy decodes.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY memcorpus memcorpus
COPY pipeline pipeline
COPY encoders encoders
COPY storage storage
COPY retrieval retrieval
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM python:${PYTHON}-slim
# cuda or tpu in the place of build, where workers have such.
ARG EXTRAS=build,dataflow
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /tmp/wheels/*.whl)[${EXTRAS}]" \
    && rm -r /tmp/wheels /tmp/constraints.txt
# Nothing is staged and nothing is installed when a worker starts: all is here.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
