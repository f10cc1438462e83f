"A lecture you can run: deep learning's development infrastructure and tooling, predicted, run for real, compared."
__version__ = "0.1.0"

from fsdl_course import spec
from fsdl_course.spec import MODELS, Cluster, Layout, Transformer

# `spec` stands on the ground and names no module above it. The package knows them all; each is imported when its method is called.
spec.HELPERS.update({
    "Layout.to": "fsdl_course.compute.configs:to",
    "Cluster.here": "fsdl_course.parallel.here:this_machine",
})

__all__ = ["MODELS", "Cluster", "Layout", "Transformer", "__version__"]
