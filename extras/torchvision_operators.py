"""Lets torchvision be imported beside a PyTorch of another build.

Where PyTorch comes without CUDA and torchvision with it (an index that serves only one build of each), `import torchvision` fails with
"operator torchvision::nms does not exist", and timm, fastai.vision, peft and Lightning fail with it. The course uses none of torchvision's compiled
operators, so `make extras` copies this file into its environment where, and only where, the import fails: it declares the operators before
torchvision is first imported. Calling one still fails. A matching pair of builds never meets this file.
"""

import importlib.abc
import sys

OPERATORS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class DeclareFirst(importlib.abc.MetaPathFinder):
    "Declares the operators when torchvision is asked for, and leaves the finding to the others."

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and DeclareFirst.library is None:
            import torch

            DeclareFirst.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                if not hasattr(torch.ops.torchvision, operator.partition("(")[0]):
                    DeclareFirst.library.define(operator)
        return None


sys.meta_path.insert(0, DeclareFirst())
