"""The training step that scripts about the machine repeat: resnet20 on one synthetic batch."""

from collections.abc import Callable


def stepper(batch: int) -> Callable[[], None]:
    """Return what takes a step of SGD, channels-last, in float32."""
    import torch
    import torch.nn.functional as F

    from resnets import create_model

    model = create_model("resnet20").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, foreach=True)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step
