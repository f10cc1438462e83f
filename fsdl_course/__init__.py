"A lecture you can run: deep learning's development infrastructure and tooling, predicted, run for real, compared."
__version__ = "0.1.0"

from fsdl_course.spec import MODELS, Cluster, Layout, Transformer

__all__ = ["MODELS", "Cluster", "Layout", "Transformer", "__version__"]
